"""Which of several rows of one key is the newest? The one with the greatest value of the version column.

The value is taken as a UInt64 that keeps the order. Signed integers are offset by 2**63, dates and timestamps
by the same over their native integer (days, or units since 1970); unsigned integers stand as they are. NULL
is 0, older than every other. What a row's version is in the target, the column does not say: it can go back.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cdc.change import TablePlan
from cdc.duckdb_types import VERSIONS, Family, meaning_of
from cdc.errors import SourceError


def check_version_column(plan: TablePlan) -> None:
    """Raises:
    SourceError: the version column's type has no order within 64 bits.
    """
    column = next((column for column in plan.columns if column.name == plan.version), None)
    if plan.version is None:
        return
    if column is None or not meaning_of(column.type).may_be_version:
        raise SourceError(
            "replicate",
            plan.table,
            f"its version column {plan.version} is "
            + (f"a {column.type}" if column else "not among its columns"),
            f"Choose {VERSIONS}",
        )


def column_versions(rows: pa.RecordBatch, plan: TablePlan) -> pa.UInt64Array:
    """The version column of `rows`; without one all are alike."""
    if plan.version is None:
        return pa.array(np.zeros(rows.num_rows, dtype=np.uint64))
    column = rows.column(plan.version)
    meaning = meaning_of(next(column.type for column in plan.columns if column.name == plan.version))
    if meaning.unsigned:
        values = column.cast(pa.uint64()).fill_null(0).to_numpy(zero_copy_only=False)
        return pa.array(values.astype(np.uint64))
    native = (
        column.cast(pa.int32()).cast(pa.int64()) if meaning.family is Family.DATE else column.cast(pa.int64())
    )
    values = native.fill_null(0).to_numpy(zero_copy_only=False)
    versions = values.view(np.uint64) ^ np.uint64(1 << 63)
    if column.null_count:
        versions = np.where(column.is_valid().to_numpy(zero_copy_only=False), versions, np.uint64(0))
    return pa.array(versions)
