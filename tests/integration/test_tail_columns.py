"""Columns of every kind and name, as the log tells of them: generated ones, which it does not number; names
that are ours, or hard to spell; many. [issue 12 cases 1, 2, 20, 22]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cdc.change import TablePlan, TableSchema
from cdc.source import open_source
from tests.support.followed import Followed
from tests.support.kept import Heard, Kept, written
from tests.support.sources import plan_of
from tests.support.writers import VERSIONS


@pytest.fixture(params=VERSIONS)
def versions(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Followed]:
    """A writer of each version in turn, and no table yet."""
    with ExitStack() as stack:
        followed = Followed(tmp_path / "t.db", stack)
        followed.write(request.param)
        yield followed


@pytest.fixture
def current(tmp_path: Path) -> Iterator[Followed]:
    with ExitStack() as stack:
        followed = Followed(tmp_path / "t.db", stack)
        followed.write(VERSIONS[-1])
        yield followed


@dataclass(frozen=True)
class Table:
    """A table, and the assignments that one row's update after another makes; any row may be any of them."""

    columns: str
    rows: str
    """What an INSERT selects for the number i."""
    stored: str
    """The columns that it goes into; generated ones cannot be written."""
    updates: Sequence[str]


GENERATED = {
    "first": Table(
        "total INTEGER GENERATED ALWAYS AS (price * qty), id INTEGER PRIMARY KEY, price INTEGER, qty INTEGER,"
        " seq INTEGER",
        "i, 10, 1, i",
        "id, price, qty, seq",
        ("qty = 7", "price = NULL", "price = id, qty = 3", "seq = seq + 1000000"),
    ),
    "among": Table(
        "id INTEGER PRIMARY KEY, total INTEGER GENERATED ALWAYS AS (price * qty), price INTEGER, qty INTEGER,"
        " seq INTEGER",
        "i, 10, 1, i",
        "id, price, qty, seq",
        ("qty = 7", "price = NULL", "price = id, qty = 3", "seq = seq + 1000000"),
    ),
    "last": Table(
        "id INTEGER PRIMARY KEY, seq INTEGER, h BIGINT, v VARCHAR, w AS (h * 2)",
        "i, i, i, 'x'",
        "id, seq, h, v",
        ("h = 7", "v = NULL", "h = NULL, v = 'y'"),
    ),
    "of each other and of every type": Table(
        """id INTEGER, a AS (b + 1), b AS (struct_extract(s, 'n') * 2), s STRUCT(n INTEGER, "of" VARCHAR),
        c VARCHAR AS (upper(struct_extract(s, 'of')) || '''' || a), z TIMESTAMP, d DATE AS (CAST(z AS DATE)),
        l AS ([a, b]), x STRUCT(p INTEGER, q VARCHAR) AS ({'p': a, 'q': c}),
        e ENUM('u', 'v') AS (CASE WHEN b > 40 THEN 'u' ELSE 'v' END), m DECIMAL(18, 3) AS (b / 7), seq BIGINT,
        "odd "" gen.erated" BOOLEAN AS ("odd "" one" IS NULL), "odd "" one" VARCHAR""",
        "i, {'n': i, 'of': 'z'}, TIMESTAMP '2026-01-01' + to_hours(i::INTEGER), i, 'w'",
        'id, s, z, seq, "odd "" one"',
        (
            "s = {'n': 9, 'of': NULL}",
            "s = NULL",
            "z = NULL, s = {'n': id, 'of': 'q'}",
            '"odd "" one" = NULL',
            "seq = seq + 1000000",
        ),
    ),
}


def change_by_change(followed: Followed, table: Table) -> None:
    """Make every change, alone and with others in one commit, and compare after each."""
    writer = followed.writer
    writer.run(f"CREATE TABLE t ({table.columns})")

    def insert(first: int, count: int) -> None:
        writer.run(
            f"INSERT INTO t ({table.stored}) SELECT {table.rows} FROM range({first}, {first + count}) AS r(i)"
        )

    insert(0, 200)
    writer.run("CHECKPOINT")
    followed.follow()
    assert followed.kept.rows == written(writer, "t")
    for number, update in enumerate(table.updates):
        writer.run(f"UPDATE t SET {update} WHERE id = {number + 3}")
        assert followed.equal()
        insert(1_000 + number, 1)
        assert followed.equal()
        writer.run(f"UPDATE t SET {update} WHERE id IN ({1_000 + number}, {number + 20})")
        assert followed.equal()
        writer.run(f"DELETE FROM t WHERE id = {number + 3}")
        assert followed.equal()
        writer.run("BEGIN")
        insert(2_000 + 10 * number, 3)
        writer.run(f"UPDATE t SET {update} WHERE id % 7 = {number} OR id >= 2000")
        writer.run(f"DELETE FROM t WHERE id % 11 = {number}")
        writer.run("COMMIT")
        assert followed.equal()
    writer.run("CHECKPOINT")
    assert followed.equal()
    writer.run(f"UPDATE t SET {table.updates[0]} WHERE id % 5 = 1")
    assert followed.equal()
    assert followed.heard.lost == []
    assert followed.kept.broken == []


@pytest.mark.parametrize("place", GENERATED)
def test_changes_of_stored_columns_arrive_with_what_is_generated_of_them(
    versions: Followed, place: str
) -> None:
    """[issue 12 case 1]"""
    change_by_change(versions, GENERATED[place])


def test_a_generated_column_renamed_or_made_of_renamed_ones_is_followed_after_the_next_checkpoint(
    current: Followed,
) -> None:
    table = GENERATED["among"]
    current.writer.run(f"CREATE TABLE t ({table.columns})")
    current.writer.run(f"INSERT INTO t ({table.stored}) SELECT {table.rows} FROM range(100) AS r(i)")
    current.run("ALTER TABLE t RENAME COLUMN total TO amount", "ALTER TABLE t RENAME COLUMN price TO cost")
    current.run("CHECKPOINT")
    current.follow()
    current.run("UPDATE t SET cost = 3, qty = 5 WHERE id = 7")
    assert current.equal()
    assert ("7", "15", "3", "5", "7") in current.kept.rows
    assert current.heard.lost == []


def test_a_generated_key_that_changes_is_removed_under_its_old_value(current: Followed) -> None:
    current.writer.run("CREATE TABLE t (k VARCHAR AS ('k' || id), id INTEGER, seq INTEGER)")
    current.writer.run("INSERT INTO t SELECT i, i FROM range(50) AS r(i)")
    current.run("CHECKPOINT")
    current.source = current.stack.enter_context(
        open_source(current.path, deletes=True, events=current.heard)
    )
    current.kept = Kept(current.source, plan_of(current.source, "t", key=("k",)))
    current.kept.read()
    current.run("UPDATE t SET id = 1000 WHERE id = 7", "UPDATE t SET seq = 99 WHERE id = 8")
    assert current.equal()
    current.run("DELETE FROM t WHERE id = 9")
    assert current.equal()
    assert current.heard.lost == []


def test_a_table_beside_one_with_generated_columns_never_notices(versions: Followed) -> None:
    """[issue 12 case 2]"""
    run = versions.writer.run
    run("CREATE TABLE g (id INTEGER, seq INTEGER, h BIGINT, i BIGINT AS (h * 2), v VARCHAR)")
    run("CREATE TABLE p (id INTEGER, seq INTEGER, h BIGINT, v VARCHAR)")
    for table in "gp":
        run(f"INSERT INTO {table} SELECT i, i, i, 'x' || i FROM range(500) AS r(i)")
    run("CHECKPOINT")
    source = versions.stack.enter_context(open_source(versions.path, deletes=True, events=versions.heard))
    kept = {table: Kept(source, plan_of(source, table)) for table in "gp"}
    for each in kept.values():
        each.read()
    for number in range(6):
        for table in "gp":
            run(f"DELETE FROM {table} WHERE id = {number}")
            run(f"UPDATE {table} SET v = 'u', h = {number} WHERE id = {100 + number}")
        for table, each in kept.items():
            each.read()
            assert each.rows == written(versions.writer, table)
    assert versions.heard == Heard()


OURS = (
    *("__cdc_hash", "__CDC_ROW_ID", "__cdc_round", "__cdc_moves", "__cdc_Read_at", "__cdc_version"),
    *("__cdc_number", "__cdc_group", "__cdc_deleted", "__cdc_hash_", "cdc_window", "cdc_row", "cdc_rows"),
    *("touched_rows", "removed", "new", "gone", "here", "found", "wanted", "sent", "leaf", "leaf_0"),
    *("value", "value_0", "has_0", "place", "row_id", "inserts", "f", "s", "each", "main", "temp"),
)
HARD = (
    "a",
    "sélect",
    'with "quotes"',
    "with.dots",
    "with spaces",
    "order",
    "日本",
    "x" * 10_000,
    "'",
    "\\",
    ";",
)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def follow_changes_of(followed: Followed, table: str, names: Sequence[str], kind: str, value: str) -> None:
    """Every kind of change of a table with `names` as columns, one of them its key; `value` of a number i."""
    run = followed.writer.run
    columns = [quoted(name) for name in names]
    run(f"CREATE TABLE {table} (id INTEGER, seq BIGINT, {', '.join(f'{c} {kind}' for c in columns)})")

    def insert(first: int, count: int) -> None:
        values = ", ".join([value.format("i")] * len(columns))
        run(f"INSERT INTO {table} SELECT i, i, {values} FROM range({first}, {first + count}) AS r(i)")

    insert(0, 100)
    run("CHECKPOINT")
    followed.source = followed.stack.enter_context(
        open_source(followed.path, deletes=True, events=followed.heard)
    )
    [schema] = followed.source.tables()
    plan = replace(plan_of_schema(schema), overlap="20")
    if not kind.startswith("STRUCT"):
        plan = replace(plan, key=(names[-1], "id"))
    kept = Kept(followed.source, plan)
    kept.read()
    insert(100, 3)
    each = [f"{column} = {value.format('id + 7')}" for column in columns]
    for update in (each[0], each[-1], ", ".join(each)):
        run(f"UPDATE {table} SET {update} WHERE id IN (5, 50, 102)")
        kept.read()
        assert kept.rows == written(followed.writer, table)
        run("BEGIN")
        insert(200, 2)
        run(f"UPDATE {table} SET {update} WHERE id >= 199")
        run(f"DELETE FROM {table} WHERE id IN (6, 200)")
        run("COMMIT")
        kept.read()
        assert kept.rows == written(followed.writer, table)
        run(f"DELETE FROM {table} WHERE id >= 200")
    run("CHECKPOINT")
    kept.read()
    run(f"UPDATE {table} SET {each[0]}")
    kept.read()
    assert kept.rows == written(followed.writer, table)
    kept.learn()
    assert followed.heard == Heard()


def plan_of_schema(schema: TableSchema) -> TablePlan:
    mark = schema.column("seq")
    assert mark is not None
    return TablePlan(schema.table, "t", schema.columns, ("id",), mark)


@pytest.mark.parametrize("names", [OURS, HARD], ids=["ours", "hard to spell"])
@pytest.mark.parametrize(
    ("kind", "value"),
    [("VARCHAR", "'v' || {}"), ("STRUCT(value_0 INTEGER, row_id INTEGER)", "{{'value_0': {}, 'row_id': 2}}")],
    ids=["text", "struct"],
)
def test_columns_of_any_name_are_followed(
    versions: Followed, names: Sequence[str], kind: str, value: str
) -> None:
    """Those that we use ourselves, in another case as well. [issue 12 case 20]"""
    follow_changes_of(versions, "t", names, kind, value)


@pytest.mark.parametrize(
    "table",
    ["cdc_window", "touched_rows", "removed", "cdc_row", '"with ""quotes"". and dots"', "日本", "temporary"],
)
def test_tables_and_schemas_of_any_name_are_followed(current: Followed, table: str) -> None:
    current.run(f"CREATE SCHEMA {table}")
    follow_changes_of(current, f"{table}.{table}", ("a",), "VARCHAR", "'v' || {}")


def test_a_column_that_hides_row_ids_is_read_in_snapshots_and_that_is_said(versions: Followed) -> None:
    versions.create('id INTEGER, seq BIGINT, "RowId" INTEGER', "i, i, i")
    versions.writer.run("CREATE TABLE beside (id INTEGER, seq BIGINT)")
    versions.follow()
    beside = Kept(versions.source, plan_of(versions.source, "beside"))
    versions.run("INSERT INTO t VALUES (1000, 1000, 0)", "INSERT INTO beside VALUES (1, 1)")
    assert versions.equal()
    beside.read()
    assert beside.rows == {("1", "1")}
    assert versions.heard.lost == ["a column is named RowId, and hides DuckDB's row ids"]
    versions.run('UPDATE t SET "RowId" = 7 WHERE id = 3', "UPDATE beside SET id = 2")
    beside.read()
    assert beside.rows == {("2", "1")}
    versions.kept.read()
    assert "not seen before the writer's next checkpoint" in versions.kept.unseen[0].reason


@pytest.mark.parametrize("columns", [120, 500])
@pytest.mark.timeout(120)
def test_an_update_of_all_of_very_many_columns_does_not_take_for_ever(
    versions: Followed, columns: int
) -> None:
    """[issue 12 case 22]: both rounds take 0.5 and 1.8 s of a processor; it was minutes."""
    names = [f"c{n}" for n in range(columns)]
    run = versions.writer.run
    run(f"CREATE TABLE t (id INTEGER, seq BIGINT, {', '.join(f'{name} INTEGER' for name in names)})")
    run(f"INSERT INTO t SELECT i, i, {', '.join(['i'] * columns)} FROM range(100) AS r(i)")
    run("CHECKPOINT")
    versions.follow()
    run(f"UPDATE t SET {', '.join(f'{name} = {n}' for n, name in enumerate(names))} WHERE id = 7")
    assert versions.equal()
    run("BEGIN")
    for number in range(3):
        each = ", ".join(f"{name} = NULLIF({number} + {n} + id, 9)" for n, name in enumerate(names))
        run(f"UPDATE t SET {each} WHERE id < {number + 7}")
    run("COMMIT")
    assert versions.equal()
    assert versions.heard == Heard()
