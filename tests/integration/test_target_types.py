"""Every DuckDB type through a whole target: created, compared, inserted, and read back exactly. [F7]"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from cdc.change import Batch, Column, Mark, Position, TableId, TablePlan
from tests.support.duckdb_values import VALUES, duckdb_source, exactly, selected
from tests.support.places import Place

SEQ = Column("seq", "BIGINT", nullable=False)

WATERMARKS = {
    "TINYINT": ("-3", "5", "7"),
    "UBIGINT": ("3", "9223372036854775808", "18446744073709551615"),
    "DECIMAL(38,10)": ("-1.5000000000", "2.0000000000", "10.0000000000"),
    "DATE": ("1999-12-31", "2024-02-29", "2100-01-01"),
    "TIMESTAMP_S": ("1999-12-31 23:59:59", "2024-02-29 12:00:00", "2100-01-01 00:00:00"),
    "TIMESTAMP_MS": ("1999-12-31 23:59:59.999", "2024-02-29 12:00:00", "2100-01-01 00:00:00"),
    "TIMESTAMP": ("1999-12-31 23:59:59.999999", "2024-02-29 12:00:00.5", "2100-01-01 00:00:00"),
    "TIMESTAMP_NS": ("1999-12-31 23:59:59.999999999", "2024-02-29 12:00:00.5", "2100-01-01 00:00:00"),
    "TIMESTAMP WITH TIME ZONE": (
        "1999-12-31 23:59:59.999999+00",
        "2024-02-29 12:00:00+00",
        "2100-01-01 00:00:00+00",
    ),
    "VARCHAR": ("", "a'\\b", "b"),
    "UUID": (
        "00112233-4455-6677-8899-aabbccddeeff",
        "0190a5e0-0000-7000-ffff-000000000000",
        "0190a5e0-0001-7000-0000-000000000000",
    ),
}
"""Three values of each type that may be a watermark, in DuckDB's order, as marks hold them."""


def batch(plan: TablePlan, arrays: list[pa.Array]) -> Batch:
    rows = len(arrays[0])
    return Batch(
        plan=plan,
        rows=pa.RecordBatch.from_arrays(arrays, names=list(plan.column_names)),
        versions=pa.array(range(1, rows + 1), pa.uint64()),
        mark=Mark("1", ("1",)),
        position=Position(1, 1, 1),
        seen_at=0.0,
    )


def test_every_type_comes_back_as_it_was_and_the_table_does_not_differ(any_place: Place) -> None:
    columns, arrays = [SEQ], [pa.array([1, 2], pa.int64())]
    with duckdb_source() as source:
        for at, (kind, values) in enumerate(VALUES.items()):
            column, array = selected(source, kind, values[:1], nullable=True)
            columns.append(replace(column, name=f"c {at}"))
            arrays.append(array)
    plan = TablePlan(TableId("main", "wide"), "wide", tuple(columns), key=("seq",), watermark=SEQ)
    with any_place.target(auto_create=True) as target:
        table = target.open(plan)
        encoded = table.encode(batch(plan, arrays))
        table.send(encoded)
        assert target.diff(plan) == ()
        read = target.rows(plan, None, None).read_all()
        as_text = target.query("SELECT * FROM wide_current").read_all()
    assert encoded.rejected == ()
    for column, sent, back in zip(columns, arrays, read.columns, strict=True):
        assert exactly(back.combine_chunks()).equals(exactly(sent)), column
    assert as_text.num_columns == len(columns)
    assert as_text.num_rows == 2


@pytest.mark.parametrize("kind", WATERMARKS)
def test_a_range_is_cut_where_the_source_cuts_it(any_place: Place, kind: str) -> None:
    texts = WATERMARKS[kind]
    with duckdb_source() as source:
        literals = tuple("'" + text.replace("'", "''") + "'" for text in texts)
        mark, array = selected(source, kind, literals, nullable=True)
    plan = TablePlan(TableId("main", "cut"), "cut", (SEQ, mark), key=("seq",), watermark=mark)
    with any_place.target(auto_create=True) as target:
        table = target.open(plan)
        table.send(table.encode(batch(plan, [pa.array(range(len(array)), pa.int64()), array])))
        ranges = [
            (None, texts[1]),
            (texts[1], texts[2]),
            (texts[2], None),
            (texts[0], texts[1]),
            (None, None),
        ]
        found = [target.rows(plan, low, high).read_all().column("seq").to_pylist() for low, high in ranges]
    # Rows 0, 2 and 4 have the three watermarks; 1, 3 and 5 have none, and come before the first.
    assert found == [[1, 3, 5, 0], [2], [4], [0], [1, 3, 5, 0, 2, 4]]
