"""What is DuckDB's own text of a value that came out as Arrow? Without asking DuckDB, for the common types.

A mark is written for every batch, and a query for it costs a millisecond. Types and values that are not
certain to be written alike are left to DuckDB: None.
"""

from __future__ import annotations

from uuid import UUID

import pyarrow as pa

_FIRST, _LAST = 0, 253_402_300_800
"""Seconds of 1970-01-01 and 10000-01-01: outside, DuckDB writes eras and longer years, and infinity."""
_INFINITY = 2**63 - 1
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def duckdb_text(value: pa.Array) -> str | None:
    """`CAST(x AS VARCHAR)` of the one value in `value`, with TimeZone = 'UTC'; None if not known."""
    if value.null_count:
        return None
    kind = value.type
    if pa.types.is_integer(kind) or pa.types.is_string(kind):
        return str(value[0].as_py())
    if isinstance(value, pa.ExtensionArray) and kind.extension_name == "arrow.uuid":
        return str(UUID(bytes=value.storage[0].as_py()))
    if pa.types.is_timestamp(kind):
        return _timestamp(value)
    return None


def _timestamp(value: pa.Array) -> str | None:
    number = value.cast(pa.int64())[0].as_py()
    if number == _INFINITY:  # of nanoseconds, it would be within the year 2262
        return None
    if not _FIRST <= number // _PER_SECOND[value.type.unit] < _LAST:
        return None
    text = str(pa.array([number], pa.timestamp(value.type.unit)).cast(pa.string())[0].as_py())
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return whole + (f".{fraction}" if fraction else "") + ("+00" if value.type.tz else "")
