"""Redis killed, flushed, full and hung: replication goes on, and source and target are equal. [R8 R11 R14]"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdc.errors import ExitCode
from tests.support.clickhouse import Certificates
from tests.support.faults import Rig
from tests.support.redis import PASSWORD, RedisServer
from tests.support.replica import Replica
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), certificates) as server:
        yield server


@pytest.fixture(scope="module")
def rig_options(server: RedisServer, rig_directory: Path) -> dict[str, Any]:
    return {"more": server.configuration(rig_directory)}


@pytest.fixture(scope="module")
def rig(written_rig: Rig) -> Rig:
    return written_rig


@pytest.fixture
def running(rig: Rig, server: RedisServer) -> Iterator[Rig]:
    with rig.replicate() as replica:
        rig.recover()
        wait_until(lambda: copied_rows(server) > 0, "rows to be copied")
        yield rig
        assert replica.stop() == 0


def copied_rows(server: RedisServer) -> int:
    with server.client() as client:
        return sum(1 for _ in client.scan_iter("cdc:*:row:main.trades:*", count=1000))


def _noticed(rig: Rig) -> str:
    """Wait until a person is told; what they are told."""
    wait_until(lambda: any("cannot use Redis" in line for line in rig.replica.messages()), "a word of it")
    return next(line for line in rig.replica.messages() if "cannot use Redis" in line)


def _settle(rig: Rig, fault: str) -> None:
    message = _noticed(rig)
    assert PASSWORD not in rig.replica.log
    rig.settle(fault, 0.0, message)


def test_redis_killed_and_started_again(running: Rig, server: RedisServer) -> None:
    server.kill()
    running.recover()
    _noticed(running)
    running.recover()
    server.start()
    wait_until(lambda: copied_rows(server) > 0, "rows to be copied again")
    _settle(running, "Redis killed")


def test_redis_hung(running: Rig, server: RedisServer) -> None:
    with server.frozen():
        running.recover()
        _noticed(running)
        running.recover()
    _settle(running, "Redis hung")


def test_redis_full(running: Rig, server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            running.recover()
            _settle(running, "Redis full")
        finally:
            client.config_set("maxmemory", 0)
    running.recover()


def test_redis_flushed(running: Rig, server: RedisServer) -> None:
    with server.client() as client:
        client.flushall()
        running.recover()
        wait_until(lambda: copied_rows(server) > 0, "rows to be copied again")
        wait_until(lambda: client.keys("cdc:*:sync") and client.keys("cdc:*:lease"), "all to be there again")
        (sync,) = client.keys("cdc:*:sync")
        (lease,) = client.keys("cdc:*:lease")
        assert json.loads(client.hget(sync, "main.trades") or "")["watermark"] is not None
        assert json.loads(client.get(lease) or "")["pid"] == running.replica.process.pid
    running.settle("Redis flushed", 0.0, "none")


def test_a_standby_on_another_host_takes_over(rig: Rig, server: RedisServer, tmp_path: Path) -> None:
    """Another state directory, as another host has: only Redis is between the two."""
    elsewhere = tmp_path / "cdc.toml"
    elsewhere.write_text(f"{rig.config.read_text()}\n[state]\ndirectory = '{tmp_path.as_posix()}/state'\n")
    (tmp_path / "secrets.toml").write_bytes((rig.directory / "secrets.toml").read_bytes())
    (tmp_path / "secrets.toml").chmod(0o600)
    with rig.replicate() as first:
        rig.recover()
        with Replica(elsewhere) as second:
            assert second.wait() == ExitCode.HELD.value
            assert f"held in Redis by process {first.process.pid}" in second.messages()[-1]
        with Replica(elsewhere, "--standby") as second:
            rig.recover()
            wait_until(lambda: second.log.count('"standing by"') == 3, "it to wait for the lease in Redis")
            first.kill()
            began = time.monotonic()
            wait_until(lambda: "lease taken in Redis" in second.log, "the standby to take over", 10.0)
            rig.recover()
            took = time.monotonic() - began
            rig.settle("the active replicator's host lost, a standby on another", took, "none")
            assert second.stop() == 0
