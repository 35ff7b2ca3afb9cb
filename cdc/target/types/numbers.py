"""How are booleans, integers and floating point numbers held? As themselves, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cdc.target.types.codec import Buffer, Codec, settled

if TYPE_CHECKING:
    from cdc.target.native.reader import Reader
    from cdc.target.version import ServerVersion

_FIXED: dict[str, tuple[str, npt.DTypeLike]] = {
    "TINYINT": ("Int8", np.int8),
    "SMALLINT": ("Int16", np.int16),
    "INTEGER": ("Int32", np.int32),
    "BIGINT": ("Int64", np.int64),
    "UTINYINT": ("UInt8", np.uint8),
    "USMALLINT": ("UInt16", np.uint16),
    "UINTEGER": ("UInt32", np.uint32),
    "UBIGINT": ("UInt64", np.uint64),
    "FLOAT": ("Float32", np.float32),
    "DOUBLE": ("Float64", np.float64),
}

NAMES = (*_FIXED, "BOOLEAN")


class Fixed(Codec):
    """A number whose bytes are the same in Arrow and in ClickHouse."""

    def __init__(self, clickhouse_type: str, dtype: npt.DTypeLike) -> None:
        self.clickhouse_type = clickhouse_type
        self.dtype = np.dtype(dtype)
        self.arrow_type = pa.from_numpy_dtype(self.dtype)

    def encode(self, array: pa.Array) -> list[Buffer]:
        return [settled(array, self.dtype)]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        buffer = pa.py_buffer(reader.take(rows * self.dtype.itemsize))
        return pa.Array.from_buffers(self.arrow_type, rows, [None, buffer])


class Boolean(Codec):
    """A byte a value; DuckDB exports `arrow.bool8` when asked for lossless conversion, else bits."""

    arrow_type = pa.bool8()

    def __init__(self, server: ServerVersion) -> None:
        self.clickhouse_type = "Bool" if server.has_bool else "UInt8"
        self.note = "" if server.has_bool else "0 and 1"

    def encode(self, array: pa.Array) -> list[Buffer]:
        return [(settled(array, np.int8) != 0).view(np.uint8)]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        return pa.Array.from_buffers(pa.int8(), rows, [None, pa.py_buffer(reader.take(rows))])


def fixed(name: str) -> Fixed:
    """The codec of the DuckDB type `name`, an integer of up to 64 bits or a floating point number."""
    return Fixed(*_FIXED[name])


def codec(name: str, server: ServerVersion) -> Codec:
    """The codec of the DuckDB type `name`, one of `NAMES`."""
    return Boolean(server) if name == "BOOLEAN" else fixed(name)
