"""A holder of the lease in Redis that fell silent and woke begins nothing, and writes nothing there. [R8]"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdc.clock import SystemClock
from cdc.config.redis import RedisOptions
from cdc.errors import ExitCode, LeaseHeld
from cdc.state import Leases, open_store
from cdc.state.redis_lease import RedisLease
from cdc.watermark import bind
from tests.support.clickhouse import ClickHouseServer
from tests.support.faults import Rig
from tests.support.proxy import Proxy
from tests.support.redis import RedisServer
from tests.support.redis_copied import SOURCE, Events, copy_of
from tests.support.replica import Replica
from tests.support.replication import batch_of
from tests.support.waiting import wait_until

SECONDS = 1.0


class StoppingClock(SystemClock):
    """Unless it is `going` no wait ends, as in a process that is stopped; time passes all the same."""

    def __init__(self) -> None:
        self.going = threading.Event()
        self.going.set()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        ended = super().wait(event, seconds)
        self.going.wait()
        return ended


class LeapingClock(SystemClock):
    """So many seconds `ahead` of the time that waits take."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead

    def wall(self) -> float:
        return super().wall() + self.ahead


def lease_of(options: RedisOptions, clock: SystemClock | None = None) -> RedisLease:
    return RedisLease(options, SOURCE, seconds=SECONDS, clock=clock)


def number_of(lease: RedisLease) -> int:
    assert lease.number is not None
    return lease.number


def rows_in(server: RedisServer) -> set[str]:
    """The keys whose rows are copied."""
    with server.client() as client:
        found = client.scan_iter(f"cdc:{SOURCE}:row:*", count=1000)
        return {key.decode().rpartition(":")[2] for key in found}


def test_each_holder_has_a_greater_number_also_when_redis_was_emptied(redis_server: RedisServer) -> None:
    numbers = []
    for _ in range(2):
        with lease_of(redis_server.options) as lease:
            numbers.append(number_of(lease))
        with redis_server.client() as client:
            assert not client.exists(f"cdc:{SOURCE}:lease")
            assert int(client.get(f"cdc:{SOURCE}:lease-number") or 0) == numbers[-1]
    wait_until(lambda: time.time() >= numbers[-1] + 1, "the next second: there is one takeover in each")
    with redis_server.client() as client:
        client.flushall()
    with lease_of(redis_server.options) as lease:
        numbers.append(number_of(lease))
    assert numbers[0] < numbers[1] < numbers[2]


def test_a_holder_that_wakes_past_its_lease_asks_before_it_begins_anything(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    clock = StoppingClock()
    with lease_of(redis_server.options, clock) as sleeper, open_store(tmp_path / "state") as store:
        marks = bind(store, SOURCE, Leases(sleeper))
        clock.going.clear()
        try:
            expire(redis_server)
            with lease_of(redis_server.options) as other:
                assert number_of(other) > number_of(sleeper)
                with pytest.raises(LeaseHeld, match="given up its lease"):
                    marks.check_lease()  # its own renewals still sleep
                assert not sleeper.held
                assert other.held
        finally:
            clock.going.set()


def test_a_holder_ends_also_when_the_one_that_had_overtaken_it_is_gone(redis_server: RedisServer) -> None:
    """Its copy in Redis would be refused for ever; to go on it must become the holder anew."""
    clock = StoppingClock()
    with lease_of(redis_server.options, clock) as sleeper:
        clock.going.clear()
        try:
            expire(redis_server)
            with lease_of(redis_server.options):
                pass
            assert not sleeper.held
        finally:
            clock.going.set()


def test_a_holder_goes_on_past_its_lease_while_redis_is_away_and_waits_for_nothing(
    redis_server: RedisServer,
) -> None:
    clock = LeapingClock()
    with lease_of(redis_server.options, clock) as lease:
        redis_server.kill()
        for _ in range(60):
            clock.ahead += SECONDS / 20
            began = time.monotonic()
            assert lease.held
            assert time.monotonic() - began < 0.4
        redis_server.start()


def test_redis_takes_nothing_of_a_holder_with_an_older_number(redis_server: RedisServer) -> None:  # [R11 R14]
    old, new = Events(), Events()
    with copy_of(redis_server.options, old, pid=1) as redis_copy:  # no lease there: all may write
        redis_copy.offer(batch_of([1]))
        wait_until(lambda: old.wrote == 1, "the row is copied")
    with lease_of(redis_server.options) as first:
        pass
    with (
        lease_of(redis_server.options) as second,
        copy_of(redis_server.options, new, lease_number=second.number, pid=2) as newer,
        copy_of(redis_server.options, old, lease_number=first.number, pid=1) as older,
    ):
        newer.offer(batch_of([2]))
        wait_until(lambda: new.wrote == 1, "the holder's row is copied")
        older.offer(batch_of([3]))
        wait_until(lambda: old.dropped == 1, "the other's is given up", 20.0)
        error = old.reached[0]
        assert error is not None
        assert error.problem == (f"its lease number is {first.number}, and the newest is {second.number}")
        assert "Leave the work to the other replicator" in error.remedy
        assert rows_in(redis_server) == {'["1"]', '["2"]'}
        with redis_server.client() as client:
            assert pid_in(client) == 2


def test_what_was_under_way_when_the_network_was_cut_is_refused_once_it_arrives(
    redis_server: RedisServer,
) -> None:
    """The proxy keeps what is sent, and passes it on when another has the lease already."""
    events = Events()
    with Proxy(redis_server.port) as proxy:
        options = replace(redis_server.options, url=f"redis://127.0.0.1:{proxy.port}/0", timeout_seconds=5.0)
        with (
            lease_of(options) as lease,
            copy_of(options, events, lease_number=lease.number, pid=1) as redis_copy,
        ):
            redis_copy.offer(batch_of([1]))
            wait_until(lambda: events.wrote == 1, "the row is copied")
            proxy.blackhole()
            redis_copy.offer(batch_of([2]))
            expire(redis_server)
            with lease_of(redis_server.options) as other, redis_server.client() as client:
                client.set(f"cdc:{SOURCE}:replicator", '{"pid": 2}')
                proxy.heal()
                wait_until(lambda: events.reached and events.reached[0] is not None, "it is refused")
                wait_until(lambda: not lease.held, "the older one sees the other")
                assert other.held
                assert rows_in(redis_server) == {'["1"]'}
                assert pid_in(client) == 2


def test_a_replicator_that_was_stopped_past_its_lease_ends_and_changes_nothing_in_redis(
    clickhouse_server: ClickHouseServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Two replicators of one source, each with a state of its own as on two hosts; the first is stopped."""
    directory = tmp_path / "rig"
    directory.mkdir()
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    with Rig(directory, url, clickhouse_server.query, more=redis_server.configuration(directory)) as rig:
        elsewhere = rig.directory / "elsewhere.toml"
        state = tmp_path / "state"
        elsewhere.write_text(f"{rig.config.read_text()}\n[state]\ndirectory = '{state.as_posix()}'\n")
        rig.write()
        with rig.replicate() as first, redis_server.client() as client:
            rig.recover()
            os.kill(first.process.pid, signal.SIGSTOP)
            try:
                with Replica(elsewhere, "--standby") as second:
                    rig.recover()
                    wait_until(lambda: pid_in(client) == second.process.pid, "the second's state is there")
                    os.kill(first.process.pid, signal.SIGCONT)
                    assert first.wait(20.0) == ExitCode.HELD.value
                    assert any("held in Redis by" in line for line in first.messages())
                    rig.recover()
                    assert pid_in(client) == second.process.pid
                    number = json.loads((state / "status.json").read_text())["lease_number"]
                    assert int(client.get(the_key(client, "lease-number")) or 0) == number
                    rig.settle("the holder stopped past its lease", 0.0, first.messages()[-1])
                    assert second.stop() == 0
            finally:
                if first.process.poll() is None:
                    os.kill(first.process.pid, signal.SIGCONT)


def expire(server: RedisServer) -> None:
    """Wait until nobody has the lease."""
    with server.client() as client:
        wait_until(lambda: not client.exists(f"cdc:{SOURCE}:lease"), "the lease to expire")


def the_key(client: Any, name: str) -> bytes:
    (key,) = client.keys(f"cdc:*:{name}")
    return bytes(key)


def pid_in(client: Any) -> int | None:
    """Whose state is copied."""
    keys = client.keys("cdc:*:replicator")
    return json.loads(client.get(keys[0]) or "{}").get("pid") if keys else None
