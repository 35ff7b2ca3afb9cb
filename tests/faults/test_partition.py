"""A network that is cut for a minute: packets vanish, no connection is closed, nobody is told. [R4, R7]"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.clickhouse import ClickHouseServer
from tests.support.faults import Rig
from tests.support.proxy import Proxy
from tests.support.separate_network import separate_network

MINUTE = 25.0
RECOVERY_SECONDS = 15.0
"""Of the target's return a ping tells, every second; the configured wait is 30 s by then."""


@contextmanager
def _joined(
    server: ClickHouseServer, directory: Path
) -> Iterator[tuple[Rig, Callable[[], None], Callable[[], None]]]:
    """A rig that runs, and what cuts the network between replicator and target and heals it: a cable between
    two networks, or a proxy that swallows all where this user may make no network."""
    with (
        separate_network() as network,
        Proxy(server.native_port, network.host if network else "127.0.0.1") as proxy,
        Rig(
            directory,
            f"clickhouse://127.0.0.1:{server.native_port}",
            server.query,
            through=f"clickhouse://{network.host if network else '127.0.0.1'}:{proxy.port}",
        ) as rig,
    ):

        def unblock() -> None:
            proxy.cut()
            proxy.heal()

        rig.write()
        rig.replicate(within=network.within if network else ())
        rig.calm()
        if network is None:
            yield rig, proxy.blackhole, unblock
        else:
            yield rig, network.cut, network.heal


def test_a_partition_of_a_minute_is_waited_out_and_every_row_arrives_within_seconds(
    clickhouse_server: ClickHouseServer, tmp_path: Path
) -> None:
    with _joined(clickhouse_server, tmp_path) as (rig, cut, heal):
        cut()
        until = time.monotonic() + MINUTE
        before, arrived = rig.committed(), rig.arrived()
        message = rig.said()
        time.sleep(max(0.0, until - time.monotonic()))
        assert rig.runs()
        assert rig.arrived() <= before, "nothing gets through"
        assert rig.committed() > before >= arrived, "the writer goes on"
        assert rig.status()["breaker"] != "closed"
        heal()
        took = rig.recover(RECOVERY_SECONDS)
        rig.settle("network partition for a minute", took, message)
