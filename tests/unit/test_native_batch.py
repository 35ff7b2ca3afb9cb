"""A batch as one block: its bad rows set aside, its own columns added, its token the same on every run."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.change import Batch, Column, FailedRow, Mark, Position, TableId, TablePlan
from cdc.target.native import NativeBlock, block_token, decode_blocks, encode_batch
from cdc.target.types import column_codec
from cdc.target.version import ServerVersion
from tests.support.duckdb_values import VALUES, duckdb_source, exactly, selected

pytestmark = pytest.mark.long


SERVER = ServerVersion(26, 9)
COLUMNS = (
    Column("id", "UUID", nullable=False),
    Column("day", "DATE"),
    Column("note", "VARCHAR", nullable=False),
)
PLAN = TablePlan(TableId("main", "trades"), "trades", COLUMNS, ("id",), COLUMNS[1])
CODECS = tuple(column_codec(column, SERVER) for column in COLUMNS)
OWN = (
    column_codec(Column("_cdc_version", "UBIGINT", nullable=False), SERVER),
    column_codec(Column("_cdc_deleted", "UTINYINT", nullable=False), SERVER),
)
INFINITY = 2**31 - 1


def batch(days: list[int | None], notes: list[str | None], deleted: list[bool] | None = None) -> Batch:
    rows = pa.record_batch(
        {
            "id": pa.array([uuid.UUID(int=at).bytes for at in range(len(days))], pa.uuid()),
            "day": pa.array(days, pa.int32()).view(pa.date32()),
            "note": pa.array(notes, pa.string()),
        }
    )
    return Batch(
        plan=PLAN,
        rows=rows,
        versions=pa.array(range(100, 100 + len(days)), pa.uint64()),
        mark=Mark("2024-01-01", ("x",)),
        position=Position(1, 1, 2),
        seen_at=0.0,
        deleted=None if deleted is None else pa.array(deleted),
    )


def encoded(given: Batch) -> tuple[NativeBlock, tuple[FailedRow, ...]]:
    return encode_batch(given, CODECS, version_column="_cdc_version", deleted_column="_cdc_deleted")


def decoded(block: NativeBlock) -> pa.RecordBatch:
    (rows,) = decode_blocks(b"".join(block.body(0)), (*CODECS, *OWN))
    return rows


def test_version_and_deletion_stand_after_the_columns_of_the_plan() -> None:
    block, failed = encoded(batch([1, 2], ["a", "b"], [False, True]))
    assert failed == ()
    rows = decoded(block)
    assert rows.schema.names == ["id", "day", "note", "_cdc_version", "_cdc_deleted"]
    assert rows.column("_cdc_version").to_pylist() == [100, 101]
    assert rows.column("_cdc_deleted").to_pylist() == [0, 1]


def test_without_deletions_no_row_is_marked() -> None:
    block, _ = encoded(batch([1, 2], ["a", "b"]))
    assert decoded(block).column("_cdc_deleted").to_pylist() == [0, 0]


def test_a_row_that_does_not_fit_is_set_aside_with_column_and_class_of_value() -> None:
    given_batch = batch([1, INFINITY, 2, 4_000_000], ["a", "b", "c", "d"], [False, False, True, True])
    block, failed = encoded(given_batch)
    assert [(row.version, row.deleted, row.reason) for row in failed] == [
        (101, False, "column 'day': infinity does not fit Date32"),
        (103, True, "column 'day': out of the range of Date32"),
    ]
    rows = decoded(block)
    assert rows.column("note").to_pylist() == ["a", "c"]
    assert rows.column("_cdc_version").to_pylist() == [100, 102]
    assert rows.column("_cdc_deleted").to_pylist() == [0, 1]


def test_a_row_with_two_faults_is_set_aside_once() -> None:
    _, failed = encoded(batch([INFINITY, 1], [None, None]))
    assert [row.reason for row in failed] == [
        "column 'day': infinity does not fit Date32",
        "column 'note': NULL in a column that is NOT NULL",
    ]


def test_the_row_itself_is_kept_whole_among_the_failed() -> None:
    given_batch = batch([1, INFINITY], ["a", "b"])
    _, (failed,) = encoded(given_batch)
    (kept,) = pa.ipc.open_stream(failed.payload)
    assert kept.equals(given_batch.rows.slice(1, 1))
    assert failed.key == (str(uuid.UUID(int=1)),)


@pytest.mark.parametrize("kind", VALUES)
def test_bad_rows_are_set_aside_whatever_else_the_rows_hold(kind: str) -> None:
    with duckdb_source() as source:
        column, array = selected(source, kind, VALUES[kind], nullable=True)
    count = len(array)
    columns = (Column("id", "BIGINT"), Column("day", "DATE"), column)
    days = pa.array([INFINITY, *range(count - 1)], pa.int32()).view(pa.date32())
    rows = pa.record_batch([pa.array(range(count), pa.int64()), days, array], ["id", "day", "v"])
    mixed = Batch(
        plan=TablePlan(TableId("main", "mixed"), "mixed", columns, ("id",), columns[0]),
        rows=rows,
        versions=pa.array(range(count), pa.uint64()),
        mark=None,
        position=Position(1, 1, 2),
        seen_at=0.0,
    )
    codecs = [column_codec(each, SERVER) for each in columns]
    block, (failed,) = encode_batch(mixed, codecs, version_column="version", deleted_column="deleted")
    assert failed.key == ("0",)
    own = [replace(codec, column=replace(codec.column, name=codec.name[5:])) for codec in OWN]
    (kept,) = decode_blocks(b"".join(block.body(0)), (*codecs, *own))
    assert exactly(kept.column("v")).equals(exactly(array.slice(1)))


def test_a_batch_with_nothing_but_bad_rows_leaves_an_empty_block() -> None:
    block, failed = encoded(batch([INFINITY], ["a"]))
    assert (block.rows, len(failed)) == (0, 1)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.none() | st.integers(-719_162, 2_932_896), st.text(max_size=9))), st.integers(0, 3)
)
def test_a_slice_is_encoded_as_the_same_rows_alone(rows: list[tuple[int | None, str]], skip: int) -> None:
    whole = batch([day for day, _ in rows], [note for _, note in rows])
    part = whole.slice(skip, max(0, len(rows) - skip))
    block, failed = encoded(part)
    assert failed == ()
    assert block.rows == len(part)
    if block.rows:
        assert decoded(block).column("note").to_pylist() == [note for _, note in rows[skip:]]


def token(given_batch: Batch) -> str:
    return block_token(given_batch, encoded(given_batch)[0])


def test_the_same_rows_have_the_same_token_in_every_run_and_release() -> None:
    assert token(batch([1, None], ["a", "b"])) == "5bee67113f9d1527f0629dbafc372e59"
    longer = batch([7, 1, None], ["x", "a", "b"])
    same = replace(
        longer.slice(1, 2),
        rows=batch([1, None], ["a", "b"]).rows,
        versions=batch([1, None], ["a", "b"]).versions,
        position=Position(1, 9, 9),
        seen_at=5.0,
    )
    assert token(same) == token(batch([1, None], ["a", "b"]))


def test_rows_sent_again_on_purpose_have_another_token() -> None:
    given = batch([1], ["a"])
    block = encoded(given)[0]
    assert len({block_token(given, block, generation) for generation in (0, 1, 2)}) == 3


def test_other_rows_marks_versions_deletions_and_tables_have_other_tokens() -> None:
    base = batch([1, 2], ["a", "b"])
    others = [
        batch([1, 3], ["a", "b"]),
        batch([1, None], ["a", "b"]),
        batch([1, 2], ["ab", ""]),
        batch([1, 2], ["a", "b"], [False, True]),
        replace(base, mark=Mark("2024-01-02", ("x",))),
        replace(base, mark=None),
        replace(base, versions=pa.array([100, 102], pa.uint64())),
        replace(base, plan=replace(PLAN, target="other")),
        replace(base, plan=replace(PLAN, table=TableId("main", "other"))),
    ]
    tokens = [token(each) for each in (base, *others)]
    assert len(set(tokens)) == len(tokens)
    assert token(base) == token(batch([1, 2], ["a", "b"], [False, False]))
