"""The copy in Redis: what stands there can be read, and no trouble there is one here. [R11, R14, S1]"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
import redis

from cdc.change import Batch, Column, Mark, Position, TableId, TablePlan
from cdc.config.redis import RedisOptions, check_url
from cdc.errors import ConfigError, Meaning, TargetError
from cdc.redis_client import connect
from cdc.redis_copy import CopiedTarget, base_key, read_row, row_key, schema_key
from cdc.redis_copy import copy as copy_module
from cdc.redis_copy.rows import schema_name
from tests.support.clock import FakeClock
from tests.support.redis import RedisServer
from tests.support.redis_copied import SOURCE, Events, copy_of
from tests.support.replication import PLAN, MemoryTarget, batch_of
from tests.support.waiting import wait_until


def stored(server: RedisServer, batch: Batch, key: str) -> tuple[int, dict[str, Any]] | None:
    """Version and row of a key, as another program would read them."""
    base = base_key("cdc", SOURCE)
    with server.client() as client:
        value = client.get(row_key(base, batch.plan.table, (key,)))
        if value is None:
            return None
        schema = client.get(schema_key(base, batch.plan.table, schema_name(value)))
    assert schema is not None
    version, row = read_row(value, schema)
    (found,) = row.to_pylist()
    return version, found


def test_the_last_state_of_each_row_can_be_read_for_as_long_as_asked(redis_server: RedisServer) -> None:
    events = Events()
    first, second = batch_of([1, 2]), batch_of([2, 3])
    second = replace(second, versions=pa.array([9, 9], pa.uint64()))
    with copy_of(redis_server.options, events, row_ttl_seconds=3600) as redis_copy:
        redis_copy.offer(first)
        redis_copy.offer(second)
        wait_until(lambda: events.wrote == 4, "the rows are copied")
        assert stored(redis_server, first, "1") == (1, {"id": 1, "seq": 1})
        assert stored(redis_server, first, "2") == (9, {"id": 2, "seq": 2})
        with redis_server.client() as client:
            for key in client.scan_iter("cdc:0f3a:row:*"):
                assert 3590 < client.ttl(key) <= 3600


def test_every_type_comes_back_as_it_was(redis_server: RedisServer) -> None:
    values = {
        "id": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID(int=5).bytes], pa.binary(16))),
        "seq": pa.array([7], pa.int64()),
        "status": pa.array(["NEW"]).dictionary_encode(),
        "tags": pa.array([["a", None]]),
        "at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("ns", "UTC")),
        "note": pa.array([None], pa.string()),
    }
    columns = (Column("id", "UUID"), Column("seq", "BIGINT"))
    plan = TablePlan(TableId("main", "t"), "t", columns, ("id",), columns[1])
    rows = pa.RecordBatch.from_pydict(values)
    batch = Batch(plan, rows, pa.array([2**64 - 1], pa.uint64()), Mark("7", ("x",)), Position(1, 1, 1), 0.0)
    events = Events()
    with copy_of(redis_server.options, events) as redis_copy:
        redis_copy.offer(batch)
        wait_until(lambda: events.wrote == 1, "the row is copied")
    assert stored(redis_server, batch, str(UUID(int=5))) == (2**64 - 1, rows.to_pylist()[0])


def test_a_deleted_row_is_deleted(redis_server: RedisServer) -> None:
    events = Events()
    with copy_of(redis_server.options, events) as redis_copy:
        redis_copy.offer(batch_of([1, 2]))
        redis_copy.offer(replace(batch_of([1]), deleted=pa.array([True])))
        wait_until(lambda: events.wrote == 3, "the rows are copied")
    assert stored(redis_server, batch_of([1]), "1") is None
    assert stored(redis_server, batch_of([1]), "2") is not None


def test_how_far_each_table_is_stands_there(redis_server: RedisServer) -> None:
    with copy_of(redis_server.options, Events()), redis_server.client() as client:
        wait_until(lambda: client.hget("cdc:0f3a:sync", "main.trades"), "the state is there")
        assert json.loads(client.hget("cdc:0f3a:sync", "main.trades") or "")["watermark"] == "5"
        about = json.loads(client.get("cdc:0f3a:replicator") or "")
        assert (about["state"], about["pid"]) == ("running", 7)


def test_over_mutual_tls(redis_server: RedisServer) -> None:
    """[S1]"""
    events = Events()
    with copy_of(redis_server.tls_options, events) as redis_copy:
        redis_copy.offer(batch_of([1]))
        wait_until(lambda: events.wrote == 1, "the row is copied")
    for wrong in (
        replace(redis_server.tls_options, cert_file=None, key_file=None),
        replace(redis_server.tls_options, ca_file=None),
        replace(redis_server.tls_options, password="wrong"),
    ):
        with connect(wrong) as client, pytest.raises(redis.RedisError):
            client.ping()


def test_a_server_that_is_killed_is_gone_on_with_once_it_is_back(redis_server: RedisServer) -> None:
    events = Events()
    with copy_of(redis_server.options, events) as redis_copy:
        redis_copy.offer(batch_of([1]))
        wait_until(lambda: events.wrote == 1, "the row is copied")
        redis_server.kill()
        wait_until(lambda: events.reached, "its loss is noticed")
        redis_copy.offer(batch_of([2]))
        redis_server.start()
        wait_until(lambda: events.reached[-1] is None, "it is back")
        redis_copy.offer(batch_of([3]))
        wait_until(lambda: stored(redis_server, batch_of([3]), "3"), "what came later is copied")


def test_a_full_server_is_said_to_be_so_and_what_does_not_fit_is_counted(redis_server: RedisServer) -> None:
    events = Events()
    with redis_server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
    with copy_of(redis_server.options, events) as redis_copy:
        redis_copy.offer(batch_of([1]))
        wait_until(lambda: events.dropped == 1, "the row is given up")
    error = events.reached[0]
    assert error is not None
    assert error.problem == "command not allowed when used memory > 'maxmemory'"  # and nothing of the data


def test_a_server_that_hangs_costs_nothing_but_what_the_queue_holds(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = Events()
    batch = batch_of(list(range(1000)))
    with (
        copy_of(redis_server.options, events, max_bytes=10 * batch.nbytes) as redis_copy,
        redis_server.frozen(),
    ):
        for _ in range(100):
            redis_copy.offer(batch)
        assert 89_000 <= events.dropped <= 90_000  # one may have been taken out
        wait_until(lambda: events.reached, "it is noticed")
    assert events.reached[0] is not None


def test_a_backfill_does_not_take_the_interpreter_from_replication(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It copies so many rows a second, and waits between."""
    monkeypatch.setattr(copy_module, "MOST_ROWS_PER_SECOND", 100.0)
    events, clock = Events(), FakeClock()
    with copy_of(redis_server.options, events, clock=clock) as redis_copy:
        redis_copy.offer(batch_of(list(range(1, 2001))))
        wait_until(lambda: events.wrote == 2000, "all is copied")
    assert sum(seconds for seconds in clock.waits if seconds > 1.0) >= 18.0


def test_what_is_on_its_way_is_offered_also_while_the_target_is_away() -> None:
    """[R5]"""
    memory, offered = MemoryTarget(), list[Batch]()
    target = CopiedTarget(memory, offered.append)
    table = target.open(PLAN)
    memory.refuse = lambda seqs: TargetError("insert", "trades", "away", "Start it", meaning=Meaning.RETRY)
    first, second = batch_of([1]), batch_of([2, 3])
    blocks = [table.encode(first), table.encode(second)]
    with pytest.raises(TargetError):
        table.send(blocks[0])
    assert offered == [first, second]
    memory.refuse = lambda seqs: None
    for block in blocks:
        table.send(block)
    assert memory.received() == [1, 2, 3]
    assert len(offered) == 2
    assert target.ping() == 0.0


@pytest.mark.parametrize(
    "url",
    ["http://h", "redis://", "redis://h:0", "redis://h:99999", "redis://h/x", "redis://h/0?a=b", "redis:h"],
)
def test_what_is_no_url_of_a_redis_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="rediss://"):
        check_url(url)


@pytest.mark.parametrize(
    "url", ["redis://u:hush@h", "redis://:hush@h:1/0", "redis://h/hush@x", "rediss://:hu/sh@h"]
)
def test_a_password_in_the_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_url(url)
    assert "hush" not in str(caught.value)
    assert "redis_password" in str(caught.value)
    assert "hush" not in repr(RedisOptions("redis://h", "hush"))
