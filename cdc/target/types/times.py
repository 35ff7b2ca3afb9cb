"""How are dates, times of day and points in time held? Exactly, or the row is refused.

ClickHouse clamps a value out of a type's range when it prints or computes it, so every range is checked here.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cdc.target.types.codec import Buffer, Codec, Mask, Rejected, settled

if TYPE_CHECKING:
    from cdc.target.native.reader import Reader
    from cdc.target.version import ServerVersion

_EPOCH = date(1970, 1, 1)
_DAY = 86_400
_LONGEST = np.iinfo(np.int64).max

# Name → Arrow type, and the decimal digits of its unit.
_STAMPS: dict[str, tuple[pa.DataType, int]] = {
    "TIMESTAMP_S": (pa.timestamp("s"), 0),
    "TIMESTAMP_MS": (pa.timestamp("ms"), 3),
    "TIMESTAMP": (pa.timestamp("us"), 6),
    "TIMESTAMP_NS": (pa.timestamp("ns"), 9),
    "TIMESTAMP WITH TIME ZONE": (pa.timestamp("us", tz="UTC"), 6),
    "TIMESTAMPTZ_NS": (pa.timestamp("ns", tz="UTC"), 9),
}
_TIMES: dict[str, tuple[pa.DataType, int]] = {"TIME": (pa.time64("us"), 6), "TIME_NS": (pa.time64("ns"), 9)}
_UNITS = {0: "seconds", 3: "milliseconds", 6: "microseconds", 9: "nanoseconds"}

NAMES = ("DATE", *_STAMPS, *_TIMES)


class Ticks(Codec):
    """A count of units in an integer of `dtype`, between `low` and `high`, both included."""

    def __init__(
        self,
        clickhouse_type: str,
        arrow_type: pa.DataType,
        dtype: npt.DTypeLike,
        source: npt.DTypeLike,
        *,
        low: int | None = None,
        high: int | None = None,
        infinite: bool = False,
        note: str = "",
    ) -> None:
        self.clickhouse_type = clickhouse_type
        self.arrow_type = arrow_type
        self.dtype = np.dtype(dtype)
        self.source = np.dtype(source)
        self.low = low
        self.high = high
        self.infinite = infinite
        """Whether the largest number and its negative are ±infinity in DuckDB."""
        self.note = note

    def rejects(self, array: pa.Array) -> tuple[Rejected, ...]:
        if self.low is None or self.high is None or not len(array):
            return ()
        ticks = settled(array, self.source)
        if ticks.min() >= self.low and ticks.max() <= self.high:
            return ()
        outside: Mask = (ticks < self.low) | (ticks > self.high)
        found = []
        if self.infinite:
            endless: Mask = np.abs(ticks) == np.iinfo(self.source).max
            if endless.any():
                found.append(Rejected(endless, f"infinity does not fit {self.clickhouse_type}"))
            outside &= ~endless
        if outside.any():
            found.append(Rejected(outside, f"out of the range of {self.clickhouse_type}"))
        return tuple(found)

    def encode(self, array: pa.Array) -> list[Buffer]:
        return [settled(array, self.source).astype(self.dtype, copy=False)]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        ticks = np.frombuffer(reader.take(rows * self.dtype.itemsize), self.dtype)
        buffer = pa.py_buffer(ticks.astype(self.source, copy=False))
        return pa.Array.from_buffers(self.arrow_type, rows, [None, buffer])


def codec(name: str, server: ServerVersion) -> Codec:
    """The codec of the DuckDB type `name`, one of `NAMES`."""
    if name == "DATE":
        return _date(server)
    return _time_of_day(name, server) if name in _TIMES else _timestamp(name, server)


def _date(server: ServerVersion) -> Codec:
    first, last = server.date_range
    kind, dtype = ("Date32", np.int32) if server.has_date32 else ("Date", np.uint16)
    low, high = (first - _EPOCH).days, (last - _EPOCH).days
    note = f"{first} to {last}"
    return Ticks(kind, pa.date32(), dtype, np.int32, low=low, high=high, infinite=True, note=note)


def _time_of_day(name: str, server: ServerVersion) -> Codec:
    arrow_type, digits = _TIMES[name]
    if server.has_time64:
        return Ticks(f"Time64({digits})", arrow_type, np.int64, np.int64)
    return Ticks("Int64", arrow_type, np.int64, np.int64, note=f"{_UNITS[digits]} since midnight")


def _timestamp(name: str, server: ServerVersion) -> Codec:
    arrow_type, digits = _STAMPS[name]
    if not server.has_datetime64:
        note = f"{_UNITS[digits]} since 1970-01-01 UTC; infinity is the largest number, or its negative"
        return Ticks("Int64", arrow_type, np.int64, np.int64, note=note)
    first, last = server.datetime64_range
    unit = 10**digits
    low = max((first - _EPOCH).days * _DAY * unit, -_LONGEST + 1)
    high = min(((last - _EPOCH).days + 1) * _DAY * unit - 1, _LONGEST - 1)
    kind = f"DateTime64({digits}, 'UTC')"
    note = f"{_EPOCH + timedelta(low // (_DAY * unit))} to {_EPOCH + timedelta(high // (_DAY * unit))}"
    return Ticks(kind, arrow_type, np.int64, np.int64, low=low, high=high, infinite=True, note=note)
