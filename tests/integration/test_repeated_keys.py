"""A key that has several rows: said, and one deletion takes no other row with it. [issue 12 case 12]"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc.change import Mark, TableId
from cdc.config import DefaultsConfig, TableConfig
from cdc.replicator.plan import resolve
from cdc.source import DuckDbSource, open_source
from cdc.source.events import NoEvents
from tests.support.clickhouse import ClickHouseServer
from tests.support.reconciling import Scene
from tests.support.sources import LIMITS, plan_of
from tests.support.waiting import wait_until
from tests.support.writers import Writer


class Told(NoEvents):
    def __init__(self) -> None:
        self.repeated: list[str] = []
        self.unique = 0

    def key_repeated(self, table: TableId, example: str) -> None:
        self.repeated.append(f"{table}: {example}")

    def key_unique(self, table: TableId) -> None:
        self.unique += 1


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    with Writer(tmp_path / "source.db") as running:
        running.run("CREATE TABLE t (k VARCHAR, seq BIGINT, ver INTEGER, v VARCHAR)")
        yield running


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def source(writer: Writer, told: Told) -> Iterator[DuckDbSource]:
    with open_source(writer.path, deletes=True, events=told) as opened:
        yield opened


class Copy:
    """What a target shows of what one reader delivers: of each key what came last."""

    def __init__(
        self, source: DuckDbSource, *, filter: str | None = None, version: str | None = None
    ) -> None:
        plan = plan_of(source, "t", key=("k",), filter=filter, version=version, unique_key=False)
        self.reader = source.open(plan)
        self.mark: Mark | None = None
        self.rows: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        for batch in self.reader.read(self.mark, LIMITS):
            gone = [False] * len(batch) if batch.deleted is None else batch.deleted.to_pylist()
            names = (batch.rows.column(name).to_pylist() for name in ("k", "v"))
            for key, value, deleted in zip(*names, gone, strict=True):
                if deleted:
                    self.rows.pop(key, None)
                else:
                    self.rows[key] = value
            self.reader.acknowledged(batch)
            self.mark = batch.mark or self.mark
        return self.rows


@pytest.mark.parametrize(
    ("columns", "key", "unique"),
    [
        ("k INTEGER PRIMARY KEY, seq BIGINT", ["k"], True),
        ("k INTEGER PRIMARY KEY, seq BIGINT", ["seq", "k"], True),
        ("k INTEGER NOT NULL UNIQUE, seq BIGINT", ["k"], True),
        ("k INTEGER UNIQUE, seq BIGINT", ["k"], False),
        ("k INTEGER, seq BIGINT NOT NULL, PRIMARY KEY (k, seq)", ["k"], False),
        ("k INTEGER, seq BIGINT", ["k"], False),
    ],
)
def test_only_a_constraint_without_null_says_that_a_key_has_one_row(
    tmp_path: Path, columns: str, key: list[str], unique: bool
) -> None:
    with Writer(tmp_path / "s.db") as writer:
        writer.run(f"CREATE TABLE t ({columns})")
        table = TableConfig.model_validate({"name": "t", "key": key, "watermark": "seq"})
        with open_source(writer.path) as source:
            (plan,) = resolve([table], DefaultsConfig(), source.tables()).plans
            assert plan.unique_key is unique
        writer.run("CREATE TABLE i (k INTEGER NOT NULL, seq BIGINT)")
        writer.run("CREATE UNIQUE INDEX of_i ON i (k)")
        with open_source(writer.path) as source:
            table = TableConfig.model_validate({"name": "i", "key": ["k"], "watermark": "seq"})
            (plan,) = resolve([table], DefaultsConfig(), source.tables()).plans
            assert plan.unique_key


@pytest.mark.parametrize("checkpointed", [True, False])
def test_one_deletion_takes_no_other_row_with_it(
    writer: Writer, source: DuckDbSource, told: Told, checkpointed: bool
) -> None:
    writer.run("INSERT INTO t VALUES ('a', 1, 1, 'one'), ('a', 2, 1, 'two'), ('b', 3, 1, 'b')")
    if checkpointed:
        writer.run("CHECKPOINT")
    copy = Copy(source)
    assert copy.read() == {"a": "two", "b": "b"}
    assert told.repeated == ["main.t: k = a has 2 rows"]
    writer.run("DELETE FROM t WHERE v = 'two'")
    assert copy.read() == {"a": "one", "b": "b"}
    writer.run("DELETE FROM t WHERE k = 'a'")
    assert copy.read() == {"b": "b"}


def test_a_change_of_a_row_that_is_not_shown_does_not_show_it(writer: Writer, source: DuckDbSource) -> None:
    writer.run("INSERT INTO t VALUES ('a', 1, 1, 'one'), ('a', 2, 1, 'two'), ('c', 3, 1, 'c')")
    copy = Copy(source)
    assert copy.read() == {"a": "two", "c": "c"}
    writer.run("UPDATE t SET v = 'uno' WHERE v = 'one'")
    assert copy.read() == {"a": "two", "c": "c"}
    writer.run("UPDATE t SET k = 'c' WHERE v = 'two'")
    assert copy.read() == {"a": "uno", "c": "c"}
    writer.run("UPDATE t SET seq = 9 WHERE v = 'two'")
    assert copy.read() == {"a": "uno", "c": "two"}
    writer.run("INSERT INTO t VALUES ('c', 4, 1, 'late')")
    assert copy.read() == {"a": "uno", "c": "two"}


def test_the_greatest_version_is_shown_where_there_is_one(writer: Writer, source: DuckDbSource) -> None:
    writer.run("INSERT INTO t VALUES ('a', 1, 7, 'seven'), ('a', 2, NULL, 'none'), ('a', 3, 5, 'five')")
    copy = Copy(source, version="ver")
    assert copy.read() == {"a": "seven"}
    writer.run("DELETE FROM t WHERE ver = 7")
    assert copy.read() == {"a": "five"}
    writer.run("DELETE FROM t WHERE ver = 5")
    assert copy.read() == {"a": "none"}


def test_rows_outside_the_filter_do_not_count(writer: Writer, source: DuckDbSource, told: Told) -> None:
    writer.run("INSERT INTO t VALUES ('a', 1, 1, 'one'), ('a', 2, 1, 'TEST')")
    copy = Copy(source, filter="v <> 'TEST'")
    assert copy.read() == {"a": "one"}
    assert told.repeated == []
    writer.run("DELETE FROM t WHERE v = 'one'")
    assert copy.read() == {}


def test_a_key_that_is_repeated_later_is_noticed_at_a_deletion_or_by_a_comparison(
    writer: Writer, source: DuckDbSource, told: Told
) -> None:
    writer.run("INSERT INTO t VALUES ('a', 1, 1, 'one')")
    copy = Copy(source)
    assert copy.read() == {"a": "one"}
    writer.run("INSERT INTO t VALUES ('a', 2, 1, 'two')")
    assert copy.read() == {"a": "two"}
    assert told.repeated == []
    writer.run("DELETE FROM t WHERE v = 'two'")
    assert copy.read() == {"a": "one"}
    assert told.repeated == ["main.t: k = a has several rows"]
    plan = plan_of(source, "t", key=("k",), unique_key=False)
    source.boundaries(plan, 1)
    assert told.unique == 1
    writer.run("INSERT INTO t VALUES ('b', 5, 1, 'b'), ('b', 6, 1, 'b')")
    source.boundaries(plan, 1)
    assert told.repeated[1:] == ["main.t: k = b has 2 rows"]


def test_a_repeated_key_is_told_and_the_comparison_goes_by_the_same_rule(
    tmp_path: Path, clickhouse_server: ClickHouseServer
) -> None:
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    columns, tables = (
        "id INTEGER NOT NULL, seq BIGINT NOT NULL, s VARCHAR",
        '[[tables]]\nname = "t"\nkey = ["id"]',
    )
    with Scene(tmp_path, url, clickhouse_server.query, columns=columns, more=tables, rows=20) as scene:
        scene.commit("INSERT INTO t VALUES (7, 100, 'again'), (8, -1, 'before')")
        shown = "SELECT id, max(seq), max_by(s, seq) FROM t GROUP BY id ORDER BY id"

        def equal() -> bool:
            return scene.here() == [tuple(map(str, row)) for row in scene.writer.run(shown)]

        with scene.replicate() as replica:
            scene.wait_caught_up(replica)
            wait_until(equal, "of each key the row with the greatest watermark to be shown", 60.0)
            wait_until(lambda: "key_not_unique" in str(scene.status()["alerts"]), "an alert", 30.0)
            [alert] = [each for each in scene.status()["alerts"] if each["name"] == "key_not_unique"]
            assert alert["subject"] == "main.t"
            assert "its key is not unique: id = " in alert["message"]
            scene.commit("DELETE FROM t WHERE seq = 100", "UPDATE t SET s = 'never' WHERE seq = -1")
            wait_until(lambda: "'7', '7', 'row 7'" in str(scene.here()), "the other row to be shown", 30.0)
            assert equal()
            verified = scene.verify(scene.config)
            assert verified.returncode == 0, verified.stdout + verified.stderr
            scene.commit("DELETE FROM t WHERE seq = -1")
            scene.commit("DELETE FROM t WHERE id = 3")
            wait_until(equal, "a deletion of the only row to be one", 30.0)
            assert replica.stop() == 0
