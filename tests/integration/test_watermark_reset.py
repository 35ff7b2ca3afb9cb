"""A mark that was reset, and the source that goes on from it: no row past it is left out."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from cdc.change import BatchLimits, Column, Mark, TableId, TablePlan
from cdc.source import open_source
from cdc.state import Lease, open_store
from cdc.watermark import bind, plan_reset, reset_mark

TABLE = TableId("main", "t")


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        (None, ["a", "b", "c", "d"]),
        ("2024-01-01T00:00:00.000000002", ["b", "c", "d"]),
        ("2024-01-01 00:00:00.000000003", ["d"]),
    ],
    ids=["cleared", "a watermark that two rows share", "the last"],
)
def test_rows_from_the_new_mark_on_are_read_again(
    tmp_path: Path, to: str | None, expected: list[str]
) -> None:
    path = tmp_path / "t.duckdb"
    with duckdb.connect(path) as writer:
        writer.execute("CREATE TABLE t (id VARCHAR PRIMARY KEY, moment TIMESTAMP_NS)")
        for id_, nanosecond in (("a", 1), ("b", 2), ("c", 2), ("d", 3)):
            writer.execute(
                "INSERT INTO t VALUES (?, make_timestamp_ns(?))", [id_, 1704067200 * 10**9 + nanosecond]
            )
    columns = (Column("id", "VARCHAR"), Column("moment", "TIMESTAMP_NS"))
    plan = TablePlan(TABLE, "t", columns, ("id",), columns[1])
    with (
        open_source(path) as source,
        Lease(tmp_path / "state", source.identity) as lease,
        open_store(tmp_path / "state") as store,
    ):
        store.rebuild(source.identity, {TABLE: Mark("2024-01-01 00:00:00.000000003", ("d",))})
        marks = bind(store, source.identity, lease)
        marks.describe(plan)
        (change,) = plan_reset(store, TABLE, to=to)
        reset_mark(store, source.identity, TABLE, change.after)
        reader = source.open(plan)
        batches = list(reader.read(marks.load(TABLE).mark, BatchLimits(rows=100, bytes=1 << 20)))
        reader.close()
    assert [row for batch in batches for row in batch.rows.column("id").to_pylist()] == expected
