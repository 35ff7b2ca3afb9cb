"""Columns named like those that stored rows get beside their own: nothing is taken for the other. [issue 12
case 20]"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from cdc.change import Batch, Column, Completion, TableId, TablePlan, free_name
from cdc.replicator.group_hold import GroupHold
from cdc.replicator.packed import pack, together, unpack
from cdc.source import CompletionRule
from cdc.stored import Held
from tests.support.clock import FakeClock

NAMES = ("__cdc_version", "__CDC_deleted", "__cdc_group", "cdc_rows")
RULE = Completion("cdc_rows", "max(__cdc_group) = 9", max_age_seconds=60.0, max_rows=1000, max_bytes=1 << 20)
PLAN = TablePlan(
    table=TableId("main", "t"),
    target="t",
    columns=tuple(Column(name, "INTEGER") for name in NAMES),
    key=("__cdc_version",),
    watermark=Column("__CDC_deleted", "INTEGER"),
    completion=RULE,
)


def batch_of(*rows: tuple[int, int, int, int]) -> Batch:
    columns = [pa.array(column, pa.int32()) for column in zip(*rows, strict=True)]
    return Batch(
        plan=PLAN,
        rows=pa.RecordBatch.from_arrays(columns, names=list(NAMES)),
        versions=pa.array([70 + n for n in range(len(rows))], pa.uint64()),
        mark=None,
        position=None,
        seen_at=0.0,
        deleted=pa.array([n == 1 for n in range(len(rows))]),
    )


def test_a_free_name_is_none_of_those_taken_in_any_case() -> None:
    assert free_name("a", ["b"]) == "a"
    assert free_name("a", ["A", "a_"]) == "a__"


def test_packed_rows_come_back_as_they_were() -> None:
    batch = together([batch_of((1, 2, 3, 4), (5, 6, 7, 8)), batch_of((9, 10, 11, 12))])
    back = unpack(pack(batch), PLAN)
    assert back.rows.equals(batch.rows)
    assert back.versions.equals(batch.versions)
    assert back.deleted is not None
    assert back.deleted.to_pylist() == [False, True, False]


def test_bytes_that_lack_the_two_columns_are_refused() -> None:
    rows = batch_of((1, 2, 3, 4)).rows
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    with pytest.raises(ValueError, match="not a packed batch"):
        unpack(sink.getvalue().to_pybytes(), PLAN)


def test_groups_of_them_are_held_and_complete_as_any_and_go_when_the_schema_changes() -> None:
    hold = GroupHold(PLAN, "now", CompletionRule(PLAN, RULE), Held(), FakeClock())
    parked = hold.admit(replace(batch_of((1, 1, 0, 5), (2, 2, 0, 6)), deleted=None))
    complete = hold.admit(replace(batch_of((3, 3, 9, 5)), deleted=None))
    assert complete.batch.rows.column("__cdc_version").to_pylist() == [1, 3]
    assert complete.batch.versions.to_pylist() == [70, 70]
    hold.close()
    altered = GroupHold(PLAN, "another", None, Held(parked.holding.parked), FakeClock())
    given_up = altered.due()
    assert given_up is not None
    assert [(row.key, row.version) for row in given_up.failed] == [(("1",), 70), (("2",), 71)]
