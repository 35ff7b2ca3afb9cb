"""A network and a server that fail: cut, slow, one-sided, silent, killed, frozen, restarted. [R1, R4, R7]"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.faults import Rig
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def rig_options(proxy: Proxy) -> dict[str, Any]:
    return {"through": f"clickhouse://127.0.0.1:{proxy.port}", "backoff": "[1, 600]"}


@pytest.fixture(autouse=True)
def _healed(proxy: Proxy) -> None:
    proxy.heal()


def _fault(rig: Rig, name: str, begin: Callable[[], None], end: Callable[[], None]) -> None:
    """The fault lasts until a person was told of it."""
    begin()
    try:
        message = rig.said()
    finally:
        end()
    rig.settle(name, rig.recover(), message)


def test_a_connection_that_is_cut_is_made_again(rig: Rig, proxy: Proxy) -> None:
    before = proxy.connections
    proxy.cut()
    took = rig.recover()
    wait_until(lambda: proxy.connections > before, "another connection")
    rig.settle("connection reset", took, "none: it is back before anything was to be said")


def test_a_network_that_refuses_is_waited_for(rig: Rig, proxy: Proxy) -> None:
    _fault(rig, "connections refused", proxy.refuse, proxy.heal)


def test_a_partition_ends_by_time_out_and_the_rows_arrive_after_it(rig: Rig, proxy: Proxy) -> None:
    def end() -> None:
        proxy.cut()
        proxy.heal()

    _fault(rig, "network partition (blackhole)", proxy.blackhole, end)


def test_a_partition_longer_than_the_first_retries_is_over_within_seconds(rig: Rig, proxy: Proxy) -> None:
    """The configured wait is 600 s by then; a ping that is answered again ends it."""
    proxy.refuse()
    wait_until(lambda: rig.trouble_tables()[0].get("retries", 0) >= 4, "several attempts", 30.0)
    message = rig.said()
    proxy.heal()
    took = rig.recover(15.0)
    assert took < 15.0
    rig.settle("network partition past the first retries", took, message)


def test_a_replicator_that_starts_without_its_target_is_at_work_within_seconds_of_its_return(
    rig: Rig, proxy: Proxy
) -> None:
    """Of its tables rows were delivered before: what it reads meanwhile is spooled."""
    rig.stop()
    proxy.refuse()
    rig.replicate()
    wait_until(lambda: rig.status()["pid"] == rig.replica.process.pid, "it to start")
    wait_until(
        lambda: rig.trouble_tables() and rig.trouble_tables()[0]["spool_rows"], "rows to be spooled", 30.0
    )
    message = rig.said()
    proxy.heal()
    took = rig.recover()
    rig.settle("started while the network refuses", took, message)


def test_a_slow_network_delays_and_loses_nothing(rig: Rig, proxy: Proxy) -> None:
    def begin() -> None:
        proxy.delay_seconds = 0.6

    _fault(rig, "every packet 0.6 s late", begin, proxy.heal)


def test_a_connection_closed_from_the_servers_side_alone_is_noticed(rig: Rig, proxy: Proxy) -> None:
    proxy.half_close()
    rig.settle(
        "half-closed by the server's side", rig.recover(), "none: it is noticed before the next insert"
    )


@pytest.mark.parametrize("after_bytes", [0, 1, 300, 2000])
def test_an_insert_cut_in_the_middle_is_sent_again(rig: Rig, proxy: Proxy, after_bytes: int) -> None:
    proxy.truncate(after_bytes)
    wait_until(lambda: not proxy.truncating, "the connection to be cut")
    took = rig.recover()
    rig.settle(f"insert truncated after {after_bytes} bytes", took, "none: it is sent again at once")


def test_a_server_that_is_killed_gets_the_rows_once_it_is_back(
    rig: Rig, clickhouse_server: ClickHouseServer
) -> None:
    _fault(rig, "ClickHouse killed", clickhouse_server.kill, clickhouse_server.start)


def test_a_server_that_is_restarted_gets_the_rows(rig: Rig, clickhouse_server: ClickHouseServer) -> None:
    clickhouse_server.restart()
    took = rig.recover()
    rig.settle("ClickHouse restarted", took, "none, or a retry")


def test_a_server_that_hangs_is_a_fault_and_not_a_wait(rig: Rig, clickhouse_server: ClickHouseServer) -> None:
    with ExitStack() as thaw:
        _fault(
            rig,
            "ClickHouse frozen (SIGSTOP)",
            lambda: thaw.enter_context(clickhouse_server.frozen()),
            thaw.close,
        )
