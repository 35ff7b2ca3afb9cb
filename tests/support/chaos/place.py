"""What there is to break: a writer, a replicator, ClickHouse behind a bad network, and Redis."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import commanded_writer
from tests.support.clickhouse import ClickHouseServer, make_certificates, running_server
from tests.support.faults import TABLES as TRADES_AND_BROKERS
from tests.support.faults import Rig
from tests.support.proxy import Proxy
from tests.support.redis import RedisServer
from tests.support.replica import ROOT
from tests.support.waiting import wait_until

Faults = dict[str, Callable[[], None]]

LONGEST_SECONDS = 3.0
"""Of a fault that lasts: longer than the time-outs of the installation, which are 2 s."""
TABLES = ("trades", "brokers", "events")
PARTS = 80
"""Of a table, with which ClickHouse refuses inserts: a quarter of its own value, to be reached soon."""
REDIS_SECONDS = 60.0
"""No more than 5,000 rows a second are written to Redis, and there may be a hundred thousand."""
ENGINE = f"""
[target.engine_settings]
parts_to_delay_insert = {PARTS}
parts_to_throw_insert = {PARTS}
"""
EVENTS = """
[[tables]]
name = "events"
watermark = "updated_at"
version = "updated_at"
"""


@dataclass
class Place:
    """One installation, and the chance that decides on it."""

    rig: Rig
    proxy: Proxy
    server: ClickHouseServer
    redis: RedisServer
    random: random.Random = field(default_factory=random.Random)

    def while_(self, begin: Callable[[], object], end: Callable[[], object]) -> None:
        """A fault that lasts as long as chance will have it."""
        begin()
        try:
            self.pause()
        finally:
            end()

    def pause(self) -> None:
        time.sleep(self.random.uniform(0.0, LONGEST_SECONDS))

    def redis_is_used(self) -> None:
        """Wait until the replicator has written there how far it is, after what it still has to write."""
        with self.redis.client() as client:
            wait_until(lambda: client.keys("cdc:*:sync"), "the replicator to use Redis", REDIS_SECONDS)

    def replicate(self) -> None:
        """A new replicator. It stands by until Redis lets the lease of one that was killed expire."""
        self.rig.replicate("--standby", mortal=True)

    def cdc(self, *arguments: str, known: tuple[int, ...] = (0,)) -> str:
        """What a command of `cdc` says; `known`: the exit codes that are no surprise."""
        command = [sys.executable, "-m", "cdc", "--config", str(self.rig.config), *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode in known, f"{arguments} ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def tell_writer(self, *statements: str, alone: bool = False) -> int:
        """Have the writer run these; the first number that the last one answers."""
        rows = commanded_writer.tell(self.rig.source, *statements, alone=alone)
        return int(rows[0][0]) if rows else 0


@contextmanager
def installation(directory: Path, rate: int) -> Iterator[Place]:
    """Everything runs and is caught up."""
    certificates = make_certificates(directory / "certificates")
    (directory / "redis").mkdir()
    (directory / "rig").mkdir()
    with (
        running_server(directory / "clickhouse", certificates) as server,
        RedisServer(directory / "redis", certificates) as redis,
        Proxy(server.native_port) as proxy,
        Rig(
            directory / "rig",
            f"clickhouse://127.0.0.1:{server.native_port}",
            server.query,
            through=f"clickhouse://restrained@127.0.0.1:{proxy.port}",
            rate=rate,
            backoff="[1, 5]",
            more=ENGINE + redis.configuration(directory / "rig", lease_seconds=1),
            tables=TRADES_AND_BROKERS + EVENTS,
            deletes="replicate",
            writer=commanded_writer.COMMAND,
        ) as rig,
    ):
        place = Place(rig, proxy, server, redis)
        rig.write()
        place.replicate()
        rig.recover()
        yield place
