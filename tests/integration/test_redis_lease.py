"""The lease in Redis: one holder among several hosts, whatever happens to Redis. [R8]"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdc.errors import ExitCode, LeaseHeld, StateError
from cdc.state import Leases, open_store
from cdc.state.redis_lease import RedisLease
from cdc.watermark import bind
from tests.support.redis import PASSWORD, RedisServer
from tests.support.waiting import wait_until

SECONDS = 1.0
HOLDER = """
import sys
from cdc.config.redis import RedisOptions
from cdc.state.redis_lease import RedisLease

with RedisLease(RedisOptions(sys.argv[1], sys.argv[2]), "source", seconds=1.0):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def another_process(server: RedisServer) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease of "source" until its input ends."""
    command = [sys.executable, "-c", HOLDER, server.options.url, PASSWORD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def lease_of(server: RedisServer, source: str = "source") -> RedisLease:
    return RedisLease(server.options, source, seconds=SECONDS)


def test_a_second_replicator_is_refused_and_told_who_holds_the_lease(redis_server: RedisServer) -> None:
    with another_process(redis_server) as process:
        with pytest.raises(LeaseHeld, match=f"held in Redis by process {process.pid} on ") as caught:
            lease_of(redis_server).acquire()
        assert caught.value.exit_code is ExitCode.HELD
        with lease_of(redis_server, "another source") as other:
            assert other.held


def test_a_standby_takes_over_once_the_holder_is_killed(redis_server: RedisServer) -> None:
    with another_process(redis_server) as process:
        process.kill()
        standby = lease_of(redis_server)
        assert standby.standby(threading.Event())
        assert standby.held
        standby.release()


def test_a_holder_that_lives_keeps_the_lease_past_the_life_of_its_key(redis_server: RedisServer) -> None:
    with another_process(redis_server), redis_server.client() as client:
        client.pexpire("cdc:source:lease", 400)  # it would be gone soon
        wait_until(lambda: client.pttl("cdc:source:lease") > 500, "it is renewed")


def test_a_lease_given_up_is_free_at_once(redis_server: RedisServer) -> None:
    with lease_of(redis_server), redis_server.client() as client:
        assert client.exists("cdc:source:lease")
    with redis_server.client() as client:
        assert not client.exists("cdc:source:lease")


def test_a_holder_goes_on_without_redis_and_has_the_lease_again_when_it_is_back(
    redis_server: RedisServer,
) -> None:
    with lease_of(redis_server) as lease:
        redis_server.kill()
        redis_server.start()  # it has forgotten everything
        with redis_server.client() as client:
            wait_until(lambda: client.exists("cdc:source:lease"), "the lease is there again")
            assert lease.held
            client.flushall()
            wait_until(lambda: client.exists("cdc:source:lease"), "and again")
        assert lease.held


def test_a_holder_that_was_overtaken_stores_nothing_more(redis_server: RedisServer, tmp_path: Path) -> None:
    with lease_of(redis_server) as lease, open_store(tmp_path / "state") as store:
        marks = bind(store, "source", Leases(lease, lease))
        marks.check_lease()
        with redis_server.client() as client:
            client.set("cdc:source:lease", '{"pid": 1, "host": "elsewhere"}')
            wait_until(lambda: not lease.held, "it is noticed")
            with pytest.raises(LeaseHeld):
                marks.check_lease()
            lease.release()
            assert client.exists("cdc:source:lease")  # another's is left alone


def test_without_redis_nobody_starts_but_a_standby_waits(redis_server: RedisServer) -> None:
    redis_server.kill()
    with pytest.raises(StateError, match="Start Redis"):
        lease_of(redis_server).acquire()
    stop = threading.Event()
    standby = lease_of(redis_server)
    waiting = threading.Thread(target=standby.standby, args=(stop,))
    waiting.start()
    try:
        redis_server.start()
        wait_until(lambda: standby.held, "the standby to have it")
    finally:
        stop.set()
        waiting.join()
        standby.release()
