"""How are INTERVAL and TIME WITH TIME ZONE held, which ClickHouse does not have? By rule, exactly.

INTERVAL is a Tuple of its three parts: a month is not a number of days, so one number would not do. A time of
day with its offset is text of fixed width: `12:34:56.000000+02:30:00`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cdc.target.types.codec import Buffer, Codec, settled
from cdc.target.types.nested import Compound

if TYPE_CHECKING:
    from cdc.target.native.reader import Reader
    from cdc.target.version import ServerVersion

_PARTS = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])


class Interval(Compound):
    """Months, days and microseconds, as DuckDB keeps them; it exports the last as nanoseconds."""

    arrow_type = pa.month_day_nano_interval()
    note = "its months, days and microseconds"

    def __init__(self, server: ServerVersion) -> None:
        named = "Tuple(months Int32, days Int32, microseconds Int64)"
        self.clickhouse_type = named if server.has_nested_tuple else "Tuple(Int32, Int32, Int64)"

    def encode(self, array: pa.Array) -> list[Buffer]:
        parts = settled(array, _PARTS)
        months, days = (np.ascontiguousarray(parts[name]) for name in ("months", "days"))
        return [months, days, parts["nanoseconds"] // 1000]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        parts = np.empty(rows, _PARTS)
        parts["months"] = np.frombuffer(reader.take(rows * 4), np.int32)
        parts["days"] = np.frombuffer(reader.take(rows * 4), np.int32)
        parts["nanoseconds"] = np.frombuffer(reader.take(rows * 8), np.int64) * 1000
        return pa.Array.from_buffers(self.arrow_type, rows, [None, pa.py_buffer(parts)])


class TimeTz(Codec):
    """DuckDB packs the microseconds since midnight above 24 bits of the offset, counted down from the last.

    (src/include/duckdb/common/types/datetime.hpp, dtime_tz_t)
    """

    clickhouse_type = "String"
    arrow_type = pa.opaque(pa.binary(8), "time_tz", "DuckDB")
    note = "text, HH:MM:SS.ffffff±HH:MM:SS"
    _GREATEST = 16 * 3600 - 1
    # First column and number of digits of each part, behind the byte of the length.
    _TIME = ((1, 2), (4, 2), (7, 2), (10, 6))
    _OFFSET = ((17, 2), (20, 2), (23, 2))
    _FORM = np.frombuffer(b"\x1800:00:00.000000+00:00:00", np.uint8)

    def encode(self, array: pa.Array) -> list[Buffer]:
        packed = settled(array, np.uint64)
        micros = (packed >> np.uint64(24)).astype(np.int64)
        offset = self._GREATEST - (packed & np.uint64(0xFFFFFF)).astype(np.int64)
        text = np.tile(self._FORM, (len(packed), 1))
        seconds = micros // 1_000_000
        _put(text, self._TIME, (seconds // 3600, seconds // 60 % 60, seconds % 60, micros % 1_000_000))
        text[offset < 0, 16] = ord("-")
        size = np.abs(offset)
        _put(text, self._OFFSET, (size // 3600, size // 60 % 60, size % 60))
        return [text.reshape(-1)]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        text = np.frombuffer(reader.take(rows * len(self._FORM)), np.uint8).reshape(rows, len(self._FORM))
        hours, minutes, seconds, micros = (_number(text, *place) for place in self._TIME)
        micros += (hours * 3600 + minutes * 60 + seconds) * 1_000_000
        hours, minutes, seconds = (_number(text, *place) for place in self._OFFSET)
        size = hours * 3600 + minutes * 60 + seconds
        offset = np.where(text[:, 16] == ord("-"), -size, size)
        packed = (micros << 24 | (self._GREATEST - offset)).astype(np.uint64)
        return pa.Array.from_buffers(pa.binary(8), rows, [None, pa.py_buffer(packed)])


def _put(
    text: npt.NDArray[np.uint8],
    places: tuple[tuple[int, int], ...],
    numbers: tuple[npt.NDArray[np.int64], ...],
) -> None:
    for (first, digits), number in zip(places, numbers, strict=True):
        rest = number
        for column in range(first + digits - 1, first - 1, -1):
            text[:, column] += (rest % 10).astype(np.uint8)
            rest = rest // 10


def _number(text: npt.NDArray[np.uint8], first: int, digits: int) -> npt.NDArray[np.int64]:
    found = np.zeros(len(text), np.int64)
    for column in range(first, first + digits):
        found = found * 10 + (text[:, column] - ord("0"))
    return found
