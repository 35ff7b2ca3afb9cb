"""In which order are the few rows of a round, and which of them move the mark? Their watermarks tell.

NumPy compares integers, dates and timestamps as DuckDB does. Whatever else decides (a key where watermarks
tie, a type of another order, NULL) is left to DuckDB, which needs a millisecond more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from cdc.change import Mark, TablePlan
from cdc.source.table.text import duckdb_text

Numbers = np.ndarray[Any, np.dtype[Any]]


class Undecided(Exception):
    """The watermarks alone do not tell."""


def in_order(
    rows: pa.RecordBatch, plan: TablePlan, mark: Mark | None, latest: str | None
) -> tuple[pa.RecordBatch, Numbers]:
    """`rows` by watermark and key, and which of them lie past `mark` and not past the watermark `latest`.

    Raises:
        Undecided: DuckDB must say.
    """
    if any(rows.column(name).null_count for name in (plan.watermark.name, *plan.key)):
        raise Undecided
    column = rows.column(plan.watermark.name)
    values = _numbers(column)
    if not _ascending(values):
        order = np.argsort(values, kind="stable")
        rows, values = rows.take(pa.array(order)), values[order]
        if not _ascending(values):
            raise Undecided
    moves = np.ones(len(values), dtype=bool)
    if mark is not None:
        place = _number(mark.watermark, column.type)
        moves = values > place
        for at in np.flatnonzero(values == place).tolist():
            key = tuple(duckdb_text(rows.column(name).slice(at, 1)) for name in plan.key)
            if key != mark.key:  # otherwise it is the very row of the mark
                raise Undecided
    if latest is not None:
        moves &= values <= _number(latest, column.type)
    return rows, moves


def _ascending(values: Numbers) -> bool:
    return bool((values[1:] > values[:-1]).all())


def _number(text: str, kind: pa.DataType) -> Any:
    """The value that DuckDB writes as `text`, as `_numbers` gives it."""
    try:
        return int(text) if pa.types.is_integer(kind) else _numbers(pa.array([text]).cast(kind))[0]
    except (pa.ArrowException, ValueError) as error:  # an era, a year of five digits, infinity
        raise Undecided from error


def _numbers(column: pa.Array) -> Numbers:
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.view(pa.int64())
    elif pa.types.is_date32(kind):
        column = column.view(pa.int32())
    elif not pa.types.is_integer(kind):
        raise Undecided
    numbers: Numbers = column.to_numpy()
    return numbers
