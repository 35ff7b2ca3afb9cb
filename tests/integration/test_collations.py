"""Texts that the source compares by a collation, and everything else by their bytes. [issue 12 case 18]"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc.change import Mark
from cdc.config import DefaultsConfig, TableConfig
from cdc.errors import ConfigError
from cdc.replicator.plan import resolve
from cdc.source import DuckDbSource, open_source
from tests.support.sources import deliver, plan_of
from tests.support.writers import Writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    with Writer(tmp_path / "source.db") as running:
        yield running


@pytest.fixture
def source(writer: Writer) -> Iterator[DuckDbSource]:
    with open_source(writer.path, deletes=True) as opened:
        yield opened


@pytest.mark.parametrize("collation", ["NOCASE", "NFC", "NOACCENT", "de"])
def test_a_watermark_with_a_collation_is_refused_and_its_remedy_works(
    writer: Writer, source: DuckDbSource, collation: str
) -> None:
    writer.run(f"CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR COLLATE {collation})")
    writer.run("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    table = TableConfig(name="t", watermark="name")
    with pytest.raises(ConfigError, match="watermark 'name' has the collation") as caught:
        resolve([table], DefaultsConfig(), source.tables())
    remedy = caught.value.remedy
    assert "ALTER TABLE main.t ALTER name SET DATA TYPE VARCHAR" in remedy
    writer.run(remedy.partition("in the source: ")[2])
    (plan,) = resolve([table], DefaultsConfig(), source.tables()).plans
    assert deliver(source.open(plan), None).mark == Mark("b", ("2",))


def test_keys_that_differ_in_case_alone_are_two_keys_on_every_path(
    writer: Writer, source: DuckDbSource
) -> None:
    """DuckDB's own primary key says so, whatever the column's collation."""
    writer.run("CREATE TABLE t (k VARCHAR COLLATE NOCASE PRIMARY KEY, seq BIGINT, v VARCHAR)")
    writer.run("INSERT INTO t VALUES ('b', 5, ''), ('A', 5, ''), ('a', 5, ''), ('C', 5, '')")
    plan = plan_of(source, "t", key=("k",))
    assert deliver(source.open(plan), None).column("k") == ["A", "C", "a", "b"]
    reader = source.open(plan)
    assert [reader.rows_behind(Mark("5", (key,))) for key in "ACab"] == [3, 2, 1, 0]
    deliver(reader, None)
    writer.run("BEGIN")
    writer.run("DELETE FROM t WHERE v = '' AND encode(k) = encode('a')")
    writer.run("INSERT INTO t VALUES ('B', 6, '')")
    writer.run("DELETE FROM t WHERE encode(k) = encode('b')")
    writer.run("COMMIT")
    batches = deliver(reader, Mark("5", ("b",))).batches
    removed = {
        key
        for batch in batches
        for key, gone in zip(
            batch.rows.column("k").to_pylist(),
            batch.deleted.to_pylist() if batch.deleted is not None else [False] * len(batch),
            strict=True,
        )
        if gone
    }
    assert removed == {"a", "b"}


@pytest.mark.parametrize("checkpoint", [False, True], ids=["in the log", "in a snapshot"])
def test_an_update_of_the_case_alone_is_an_update(
    writer: Writer, source: DuckDbSource, checkpoint: bool
) -> None:
    writer.run("CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT, v VARCHAR COLLATE NOCASE)")
    writer.run("INSERT INTO t VALUES (1, 1, 'abc')")
    with open_source(writer.path, tailing=not checkpoint) as read:
        reader = read.open(plan_of(read, "t"))
        mark = deliver(reader, None).mark
        writer.run("UPDATE t SET v = 'ABC'")
        assert deliver(reader, mark).column("v") == ["ABC"]


def test_a_filter_means_in_the_log_what_it_means_in_a_snapshot(writer: Writer, source: DuckDbSource) -> None:
    writer.run("CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT, status VARCHAR COLLATE NOCASE)")
    plan = plan_of(source, "t", filter="status <> 'TEST'")
    reader = source.open(plan)
    mark = deliver(reader, None).mark
    writer.run("INSERT INTO t VALUES (1, 1, 'test'), (2, 2, 'Test'), (3, 3, 'live')")
    assert deliver(reader, mark).column("id") == [3]
    writer.run("UPDATE t SET status = 'teSt' WHERE id = 3")
    writer.run("UPDATE t SET status = 'Live' WHERE id = 1")
    ids = [
        key
        for batch in deliver(reader, mark).batches
        if batch.deleted is None
        for key in batch.rows.column("id").to_pylist()
    ]
    assert ids == [1]
    assert deliver(source.open(plan), None).column("id") == [1]
