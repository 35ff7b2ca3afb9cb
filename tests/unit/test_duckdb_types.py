"""Every part that knows what DuckDB's types mean says the same of each type, and DuckDB agrees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import duckdb
import pyarrow as pa
import pytest

from cdc.change import Column, Mark, TableId, TablePlan, TableSchema
from cdc.config import DefaultsConfig, TableConfig
from cdc.duckdb_types import meaning_of
from cdc.duckdb_types.values import find_mark_type
from cdc.errors import CdcError
from cdc.replicator.plan import Overlaps, resolve_table
from cdc.source.table.marking import Marking
from cdc.source.table.ordering import Undecided, in_order
from cdc.source.table.overlap import hash_of
from cdc.source.table.text import duckdb_text
from cdc.source.table.versions import check_version_column
from tests.support.duckdb_values import VALUES, duckdb_source

EDGES: dict[str, tuple[str, ...]] = {
    "DATE": ("'-infinity'", "'0044-03-15 (BC)'", "'5881580-07-10'", "'infinity'"),
    "TIMESTAMP_S": ("'-infinity'", "'0044-03-15 (BC) 12:00:00'", "'290000-01-01'", "'infinity'"),
    "TIMESTAMP_MS": ("'-infinity'", "'0044-03-15 (BC) 12:00:00.001'", "'290000-01-01'", "'infinity'"),
    "TIMESTAMP": (
        "'-infinity'",
        "'290309-12-22 (BC)'",
        "'0044-03-15 (BC) 12:00:00.000001'",
        "'294247-01-10 04:00:54.775806'",
        "'infinity'",
    ),
    "TIMESTAMP_NS": ("'-infinity'", "'1677-09-22'", "'2262-04-11 23:47:16.854775806'", "'infinity'"),
    "TIMESTAMP WITH TIME ZONE": ("'-infinity'", "'0044-03-15 (BC) 12:00:00+00'", "'infinity'"),
    "TIMESTAMPTZ_NS": (
        "'-infinity'",
        "'1677-09-22 00:00:00+00'",
        "'2024-01-01 00:00:00.000000001+00'",
        "'infinity'",
    ),
    "VARCHAR": ("'Z'", "'a'", "'B'", "'ä'", "'\U0001f600'"),
    "INTERVAL": ("'30 days'", "'1 month'"),
    "INTERVAL[]": ("[INTERVAL 30 DAYS]", "[INTERVAL 1 MONTH]"),
    "DOUBLE": ("0.0",),
    "FLOAT": ("0.0",),
    "DOUBLE[]": ("[0.0]", "['-0.0'::DOUBLE]"),
    "STRUCT(x FLOAT, y VARCHAR)": (
        "{'x': 0.0, 'y': NULL}",
        "{'x': '-0.0'::FLOAT, 'y': NULL}",
        "{'x': 0.0, 'y': 'NULL'}",
    ),
    "TIME WITH TIME ZONE": ("'12:00:00+01'", "'11:00:00+00'"),
    "BIT": ("'1'", "'01'"),
    "VARIANT": (),
}
TYPES = {kind: (*VALUES.get(kind, ()), *EDGES.get(kind, ())) for kind in (VALUES | EDGES)}
OVERLAPS = Overlaps(time="5s", count=1000)


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb_source() as connection:
        yield connection


def plan_of(kind: str, *, key: str | None = None, version: str | None = None) -> TablePlan | None:
    """A plan that has a column `v` of this type as its watermark, or as what is named; None: refused."""
    columns = (Column("v", kind), Column("id", "BIGINT"), Column("seq", "BIGINT"))
    schema = TableSchema(TableId("main", "t"), columns)
    wish: dict[str, object] = {"name": "t", "key": [key or "id"], "version": version}
    wish["watermark"] = "seq" if key or version else "v"
    try:
        return resolve_table(TableConfig.model_validate(wish), DefaultsConfig(), [schema], OVERLAPS)
    except CdcError:
        return None


def spelled(duck: duckdb.DuckDBPyConnection, kind: str) -> str:
    """As DuckDB's catalog spells the type."""
    duck.execute(f"CREATE OR REPLACE TABLE spelled (v {kind})").fetchall()
    sql = "SELECT data_type FROM duckdb_columns() WHERE table_name = 'spelled'"
    [(found,)] = duck.execute(sql).fetchall()
    return str(found)


def rows_of(duck: duckdb.DuckDBPyConnection, kind: str) -> pa.RecordBatch:
    """One row for each value of the type, in DuckDB's order of them, with DuckDB's own text in `text`."""
    duck.execute(f"CREATE OR REPLACE TABLE valued (v {kind})")
    duck.execute(f"INSERT INTO valued VALUES {', '.join(f'(({value}))' for value in TYPES[kind])}")
    texts = "SELECT v, 1::BIGINT AS id, 1::BIGINT AS seq, v::VARCHAR AS text FROM valued"
    order = "v" if meaning_of(kind).may_be_watermark else "text"  # sorting by it makes 0.0 of a nested -0.0
    first = "row_number() OVER (PARTITION BY text) = 1"
    table = duck.sql(f"SELECT * FROM ({texts}) QUALIFY {first} ORDER BY {order}").to_arrow_table()
    [rows] = table.combine_chunks().to_batches()
    return rows


@pytest.mark.parametrize("kind", TYPES)
def test_all_agree_which_types_may_be_watermark_key_or_version(
    duck: duckdb.DuckDBPyConnection, kind: str
) -> None:
    name = spelled(duck, kind)
    meaning, planned = meaning_of(name), plan_of(name)
    assert meaning.may_be_watermark is (planned is not None) is (find_mark_type(name) is not None)
    if planned is not None:
        Marking(planned, 60.0)
    else:
        refused = TablePlan(TableId("main", "t"), "t", (Column("v", name),), ("v",), Column("v", name))
        with pytest.raises(CdcError, match="Choose"):
            Marking(refused, 60.0)
    assert meaning.may_be_key is (plan_of(name, key="v") is not None)
    versioned = plan_of(name, version="v")
    assert meaning.may_be_version is (versioned is not None)
    column = Column("v", name)
    try:
        check_version_column(TablePlan(TableId("main", "t"), "t", (column,), ("v",), column, version="v"))
    except CdcError:
        assert versioned is None
    else:
        assert versioned is not None


@pytest.mark.parametrize("kind", [kind for kind in TYPES if meaning_of(kind).may_be_watermark])
def test_a_watermark_of_every_type_is_written_ordered_and_gone_back_from_as_duckdb_does(
    duck: duckdb.DuckDBPyConnection, kind: str
) -> None:
    name = spelled(duck, kind)
    plan, rows = plan_of(name), rows_of(duck, kind)
    assert plan is not None
    marking, mark_type = Marking(plan, 60.0), find_mark_type(name)
    assert mark_type is not None
    assert rows.num_rows > 1 or len(TYPES[kind]) < 2
    texts = [text.as_py() for text in rows.column("text")]
    keyed = rows.select(["v", "id", "seq"])
    for at, text in enumerate(texts):
        row = keyed.slice(at, 1)
        assert marking.place(row, duck) == Mark(text, ("1",))
        assert duckdb_text(row.column("v")) in (None, text)
        low = marking.low(text)
        if low is not None:
            [found] = duck.execute(f"SELECT CAST($1 AS {name}) <= CAST($2 AS {name})", [low, text]).fetchall()
            assert found == (True,), (low, text)
            assert mark_type.order(low) <= mark_type.order(text)
        if (latest := marking.latest(1_767_225_600.0)) is not None:
            mark_type.order(latest)
    orders = [mark_type.order(text) for text in texts]
    assert orders == sorted(orders)
    assert [mark_type.canonical(text) for text in texts] == texts
    for at in range(rows.num_rows):
        try:
            found_rows, moves = in_order(keyed, plan, Mark(texts[at], ("1",)), None)
        except Undecided:
            continue
        assert found_rows.column("v").equals(keyed.column("v"))
        assert moves.tolist() == [number > at for number in range(rows.num_rows)]


@pytest.mark.parametrize("kind", [kind for kind in TYPES if TYPES[kind] and meaning_of(kind).may_be_key])
def test_a_key_of_every_type_comes_back_from_its_text(duck: duckdb.DuckDBPyConnection, kind: str) -> None:
    name, rows = spelled(duck, kind), rows_of(duck, kind)
    plan = plan_of(name, key="v")
    assert plan is not None
    for at, text in enumerate(rows.column("text").to_pylist()):
        place = Marking(plan, 60.0).place(rows.select(["v", "id", "seq"]).slice(at, 1), duck)
        assert place.key == (text,)
        duck.register("place", rows.slice(at, 1))
        [found] = duck.execute(f"SELECT v = CAST($1 AS {name}) FROM place", [text]).fetchall()
        assert found == (True,)


@pytest.mark.parametrize("kind", [kind for kind in TYPES if TYPES[kind]])
def test_two_values_of_any_type_hash_alike_only_if_they_are_the_same(
    duck: duckdb.DuckDBPyConnection, kind: str
) -> None:
    """SQL calls -0.0 and 0.0 equal, and 30 days and a month: an update from one to the other is an update."""
    rows = rows_of(duck, kind)
    column = Column("v", spelled(duck, kind))
    plan = TablePlan(TableId("main", "t"), "t", (column,), ("v",), column)
    duck.register("hashed", rows)
    found = duck.execute(f"SELECT {hash_of(plan)} FROM hashed").fetchall()
    for (one, text), (other, other_text) in combinations(
        zip(found, rows.column("text").to_pylist(), strict=True), 2
    ):
        assert one != other, (text, other_text)


def test_two_texts_that_a_collation_calls_equal_hash_apart(duck: duckdb.DuckDBPyConnection) -> None:
    column = Column("v", "VARCHAR", collation="nocase")
    plan = TablePlan(TableId("main", "t"), "t", (column,), ("v",), column)
    duck.execute("CREATE OR REPLACE TABLE collated (v VARCHAR COLLATE nocase)")
    duck.execute("INSERT INTO collated VALUES ('abc'), ('ABC')")
    one, other = duck.execute(f"SELECT {hash_of(plan)} FROM collated").fetchall()
    assert one != other
    same = duck.execute(
        f"SELECT {hash_of(replace(plan, columns=(replace(column, collation=''),)))} FROM collated"
    )
    assert len({row[0] for row in same.fetchall()}) == 1, "DuckDB's own hash follows the collation"
