"""The compare core: what is reported between two sides is exactly what differs, whatever they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.change import Column, TableId, TablePlan
from cdc.comparison.compare import Comparer, Differences, Span, again, merged, spans
from cdc.comparison.digest import RowHasher
from cdc.comparison.joining import joined
from cdc.errors import SnapshotSuperseded
from tests.support.duckdb_values import VALUES, duckdb_source, selected

PLAN = TablePlan(
    table=TableId("main", "t"),
    target="t",
    columns=(
        Column("id", "VARCHAR", nullable=False),
        Column("seq", "INTEGER"),
        Column("x", "DOUBLE"),
        Column("l", "INTEGER[]"),
    ),
    key=("id",),
    watermark=Column("seq", "INTEGER"),
)
SCHEMA = pa.schema({"id": pa.string(), "seq": pa.int32(), "x": pa.float64(), "l": pa.list_(pa.int32())})

Row = tuple[int | None, float | None, tuple[int | None, ...] | None]
States = dict[str, Row]

rows = st.tuples(
    st.none() | st.integers(-3, 20),
    st.none() | st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf")]),
    st.none() | st.lists(st.none() | st.integers(0, 2), max_size=3).map(tuple),
)
states = st.dictionaries(st.text("ab\0", max_size=4), rows, max_size=12)
cuts = st.lists(st.integers(-3, 20), max_size=5, unique=True).map(sorted)


@dataclass
class Side:
    """A table held in memory; `read` may change it before each read."""

    states: States
    before_read: Callable[[Side], None] = lambda side: None
    reads: list[Span] = field(default_factory=list)

    def rows(
        self, plan: TablePlan, low: str | None, high: str | None, *, ordered: bool = True
    ) -> pa.RecordBatchReader:
        self.before_read(self)
        self.reads.append(Span(low, high))
        found = [
            {"id": key, "seq": seq, "x": x, "l": None if items is None else list(items)}
            for key, (seq, x, items) in self.states.items()
            if _within(seq, low, high)
        ]
        found.sort(key=lambda row: (row["seq"] is not None, row["seq"] or 0, row["id"]), reverse=not ordered)
        return pa.Table.from_pylist(found, SCHEMA).to_reader(max_chunksize=3)


def _within(seq: int | None, low: str | None, high: str | None) -> bool:
    if seq is None:
        return low is None
    return (low is None or seq >= int(low)) and (high is None or seq < int(high))


@pytest.fixture(scope="module")
def hasher() -> Iterator[RowHasher]:
    with RowHasher() as made:
        yield made


def told_apart(row: Row | None) -> str:
    """A text that two rows share only if they are the same: repr tells -0.0 from 0.0, and NaN is one."""
    return repr(row)


def keys_of(comparer: Comparer, *texts: str) -> set[int]:
    batch = pa.record_batch({"id": texts, "seq": [0] * len(texts), "x": [0.0] * len(texts)})
    batch = batch.append_column("l", pa.nulls(len(texts), SCHEMA.field("l").type))
    return set(comparer.numbers(batch.cast(SCHEMA))[0].tolist())


@pytest.mark.long
@settings(deadline=None, max_examples=150)
@given(source=states, target=states, shared=states, boundaries=cuts)
def test_the_differences_reported_are_exactly_the_true_ones(
    source: States, target: States, shared: States, boundaries: list[int], hasher: RowHasher
) -> None:
    source, target = {**source, **shared}, {**target, **shared}
    comparer = Comparer(PLAN, Side(source), Side(target), hasher)
    overview = comparer.overview([str(cut) for cut in boundaries])
    found = merged(comparer.differences(each.span) for each in overview if not each.equal)

    both = source.keys() & target.keys()
    changed = [key for key in both if told_apart(source[key]) != told_apart(target[key])]
    assert set(found.missing.tolist()) == keys_of(comparer, *(source.keys() - target.keys()))
    assert set(found.extra.tolist()) == keys_of(comparer, *(target.keys() - source.keys()))
    assert set(found.different.tolist()) == keys_of(comparer, *changed)
    assert len(found) == len(found.missing) + len(found.extra) + len(found.different)
    assert sum(each.source.rows for each in overview) == len(source)
    assert sum(each.target.rows for each in overview) == len(target)


@pytest.mark.long
@settings(deadline=None, max_examples=50)
@given(held=states, boundaries=cuts)
def test_equal_tables_have_equal_digests_in_every_range_whatever_the_order(
    held: States, boundaries: list[int], hasher: RowHasher
) -> None:
    comparer = Comparer(PLAN, Side(held), Side(dict(reversed(held.items()))), hasher)
    assert all(each.equal for each in comparer.overview([str(cut) for cut in boundaries]))


@pytest.mark.parametrize("kind", VALUES)
def test_every_value_of_a_type_has_a_number_of_its_own(kind: str, hasher: RowHasher) -> None:  # [F7]
    with duckdb_source() as connection:
        _, array = selected(connection, kind, VALUES[kind], nullable=True)
    numbers = hasher.values(array)
    assert len(set(numbers.tolist())) == len(VALUES[kind]) + 1  # NULL has one too
    assert numbers[1:].tolist() == hasher.values(array.slice(1)).tolist()


def test_values_agree_whatever_the_width_of_their_arrow_type(hasher: RowHasher) -> None:
    def number(value: object, kind: pa.DataType) -> int:
        return int(hasher.values(pa.array([value], kind))[0])

    assert len({number(-5, kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())}) == 1
    assert len({number(200, kind) for kind in (pa.uint8(), pa.int64(), pa.uint64())}) == 1
    assert len({number("é", kind) for kind in (pa.string(), pa.large_string())}) == 1
    assert number(True, pa.bool_()) == int(hasher.values(pa.array([1], pa.int8()).view(pa.bool8()))[0])
    assert number(Decimal("1.50"), pa.decimal64(9, 2)) == number(Decimal("1.50"), pa.decimal128(9, 2))
    words = pa.array(["b", "a"]).dictionary_encode()
    assert hasher.values(words).tolist() == hasher.values(pa.array(["b", "a"])).tolist()


def test_nan_is_one_value_and_minus_zero_is_another_than_zero(hasher: RowHasher) -> None:
    patterns = np.array([0x7FF8000000000000, 0xFFF8000000000001], np.uint64).view(np.float64)
    assert len(set(hasher.values(pa.array(patterns)).tolist())) == 1
    assert len(set(hasher.values(pa.array([0.0, -0.0])).tolist())) == 2


def test_null_empty_and_null_within_are_three_values(hasher: RowHasher) -> None:
    lists: list[Any] = [None, [], [None], [None, None], [0], [[0], [0]][0] + [0]]
    numbers = hasher.values(pa.array(lists, pa.list_(pa.int32())))
    assert len(set(numbers.tolist())) == 6
    structs = pa.array([None, {"a": None}, {"a": 0}], pa.struct({"a": pa.int32()}))
    assert len(set(hasher.values(structs).tolist())) == 3


def test_a_row_that_arrives_while_the_target_is_read_is_no_difference(hasher: RowHasher) -> None:
    row: Row = (1, 1.0, None)
    source = Side({"old": row})
    target = Side({"old": row})

    def both_get_it(side: Side) -> None:
        source.states["new"] = target.states["new"] = row

    target.before_read = both_get_it
    comparer = Comparer(PLAN, source, target, hasher)
    assert len(comparer.differences(Span())) == 0
    assert len(source.reads) == 2


def test_a_row_updated_while_the_target_is_read_is_no_difference(hasher: RowHasher) -> None:
    source, target = Side({"a": (1, 1.0, None)}), Side({"a": (1, 1.0, None)})

    def both_change(side: Side) -> None:
        source.states["a"] = target.states["a"] = (1, 2.0, None)

    target.before_read = both_change
    assert len(Comparer(PLAN, source, target, hasher).differences(Span())) == 0


def test_a_row_whose_watermark_changed_differs_and_is_neither_missing_nor_extra(hasher: RowHasher) -> None:
    comparer = Comparer(PLAN, Side({"a": (9, 1.0, None)}), Side({"a": (1, 1.0, None)}), hasher)
    found = merged(comparer.differences(span) for span in spans(["5"]))
    assert (len(found.missing), len(found.extra), len(found.different)) == (0, 0, 1)


def test_of_several_source_rows_with_one_key_the_last_counts(hasher: RowHasher) -> None:
    table = pa.Table.from_pylist([{"id": "a", "seq": 1}, {"id": "a", "seq": 2}], SCHEMA)

    class Twice(Side):
        def rows(
            self, plan: TablePlan, low: str | None, high: str | None, *, ordered: bool = True
        ) -> pa.RecordBatchReader:
            return table.to_reader()

    comparer = Comparer(PLAN, Twice({}), Side({"a": (2, None, None)}), hasher)
    assert len(comparer.differences(Span())) == 0


def test_only_what_differs_in_the_same_way_later_still_differs() -> None:
    def of(**keys: tuple[int, int]) -> Differences:
        numbers = [(int(key[1:]), *sides) for key, sides in sorted(keys.items())]
        at, source, target = (np.array(column, np.uint64) for column in zip(*numbers, strict=True))
        return Differences(at, source, target)

    before = of(k1=(5, 0), k2=(5, 0), k3=(5, 6), k4=(0, 7))
    later = of(k1=(5, 0), k3=(5, 9), k4=(0, 7), k5=(1, 0))
    assert before.still(later).keys.tolist() == [1, 4]
    assert len(before.still(Differences.none())) == 0


def test_a_superseded_snapshot_is_read_again() -> None:
    tries = iter([SnapshotSuperseded("read", "t", "a checkpoint came", "Resend"), None])

    def read() -> str:
        if (error := next(tries)) is not None:
            raise error
        return "rows"

    assert again(read) == "rows"


def test_a_source_that_is_always_superseded_is_an_error() -> None:
    def read() -> str:
        raise SnapshotSuperseded("read", "t", "a checkpoint came", "Resend")

    with pytest.raises(SnapshotSuperseded):
        again(read)


@pytest.mark.parametrize(
    ("boundaries", "texts"),
    [
        ([], ["all"]),
        (["5"], ["before 5", "from 5 on"]),
        (["5", "9"], ["before 5", "from 5 to before 9", "from 9 on"]),
    ],
)
def test_ranges_say_where_they_begin_and_end(boundaries: list[str], texts: list[str]) -> None:
    assert [str(span) for span in spans(boundaries)] == texts


def test_small_batches_are_joined_and_keep_their_rows_in_order() -> None:
    batches = [pa.record_batch({"n": range(at, at + 1000)}) for at in range(0, 200_000, 1000)]
    found = list(joined(batches))
    assert [batch.num_rows for batch in found] == [66_000, 66_000, 66_000, 2_000]
    assert pa.Table.from_batches(found).column("n").to_pylist() == list(range(200_000))


def test_batches_that_arrow_cannot_join_stay_as_they_are() -> None:
    words = [pa.record_batch({"w": pa.array([word]).dictionary_encode()}) for word in "ab"]
    assert list(joined(words)) == words
    assert list(joined([])) == []
