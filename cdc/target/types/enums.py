"""How is an ENUM held? By its labels: LowCardinality(String), which needs no ALTER when a label is added.

LowCardinality's data in the Native format: flags, the dictionary's labels as strings, then an index a row
(ClickHouse, src/DataTypes/Serializations/SerializationLowCardinality.cpp).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cdc.errors import TargetError
from cdc.target.native.strings import decode_strings, encode_strings
from cdc.target.types.codec import Buffer, Codec, settled, validity

if TYPE_CHECKING:
    from cdc.target.native.reader import Reader
    from cdc.target.version import ServerVersion

_HAS_KEYS = 1 << 9
_WHOLE_DICTIONARY = 1 << 10
_KEYS_VERSION = struct.pack("<Q", 1)
_INDEXES: tuple[npt.DTypeLike, ...] = (np.uint8, np.uint16, np.uint32, np.uint64)


class LowCardinality(Codec):
    """`LowCardinality(String)`, or when `optional` `LowCardinality(Nullable(String))`: index 0 is NULL."""

    def __init__(self, labels: tuple[str, ...], *, optional: bool = False) -> None:
        self.labels = pa.array(labels, pa.string())
        self.optional = optional
        self.arrow_type = _dictionary_type(len(labels))
        self.clickhouse_type = f"LowCardinality({'Nullable(String)' if optional else 'String'})"

    def nullable(self) -> Codec:
        return LowCardinality(tuple(self.labels.to_pylist()), optional=True)

    def prefix(self) -> bytes:
        return _KEYS_VERSION

    def encode(self, array: pa.Array) -> list[Buffer]:
        if not len(array):
            return []
        keys = array.dictionary
        indices = settled(array.indices, array.indices.type.to_pandas_dtype())
        if self.optional:
            keys = pa.concat_arrays([pa.array([""], keys.type), keys])
            indices = indices.astype(np.int64) + 1
            if array.null_count:
                indices[~validity(array.indices)] = 0
        size = _index_type(len(keys))
        head = struct.pack("<QQ", size | _HAS_KEYS | _WHOLE_DICTIONARY, len(keys))
        return [
            head,
            encode_strings(keys),
            struct.pack("<Q", len(array)),
            indices.astype(_INDEXES[size]),
        ]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        if not rows:
            return pa.nulls(0, self.arrow_type)
        flags, count = struct.unpack("<QQ", reader.take(16))
        keys = decode_strings(reader, count, pa.string())
        if struct.unpack("<Q", reader.take(8))[0] != rows:
            raise TargetError(
                "read", "a Native block", "a LowCardinality column of another length", "Ask the server again"
            )
        dtype = np.dtype(_INDEXES[flags & 0xFF])
        indices = np.frombuffer(reader.take(rows * dtype.itemsize), dtype)
        # The dictionary in the answer is the server's own: each of its keys is looked up among the labels.
        place = pc.index_in(keys, self.labels).fill_null(0).to_numpy()
        valid = indices != 0 if self.optional else np.ones(rows, np.bool_)
        return _from_places(self.arrow_type, place[indices], valid, self.labels)


class Labels(Codec):
    """A String, for servers where LowCardinality is an experiment."""

    clickhouse_type = "String"
    note = "the label"

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = pa.array(labels, pa.string())
        self.arrow_type = _dictionary_type(len(labels))

    def encode(self, array: pa.Array) -> list[Buffer]:
        return [encode_strings(array.cast(pa.string()))]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        places = pc.index_in(decode_strings(reader, rows, pa.string()), self.labels).fill_null(0).to_numpy()
        return _from_places(self.arrow_type, places, np.ones(rows, np.bool_), self.labels)

    def with_nulls(self, array: pa.Array, valid: npt.NDArray[np.bool_]) -> pa.Array:
        places = settled(array.indices, self.arrow_type.index_type.to_pandas_dtype())
        return _from_places(self.arrow_type, places, valid, self.labels)


def codec(labels: tuple[str, ...], server: ServerVersion) -> Codec:
    """The codec of an ENUM with `labels`."""
    return LowCardinality(labels) if server.has_low_cardinality else Labels(labels)


def _dictionary_type(labels: int) -> pa.DataType:
    """As DuckDB exports an ENUM with that many labels (src/common/extra_type_info.cpp)."""
    index = pa.uint8() if labels <= 0xFF else pa.uint16() if labels <= 0xFFFF else pa.uint32()
    return pa.dictionary(index, pa.string())


def _index_type(keys: int) -> int:
    """The place in `_INDEXES` of the smallest type that counts `keys`."""
    return 0 if keys <= 1 << 8 else 1 if keys <= 1 << 16 else 2


def _from_places(
    arrow_type: pa.DataType, places: npt.NDArray[Any], valid: npt.NDArray[np.bool_], labels: pa.Array
) -> pa.Array:
    mask = None if valid.all() else ~valid
    indices = pa.array(places.astype(arrow_type.index_type.to_pandas_dtype()), mask=mask)
    return pa.DictionaryArray.from_arrays(indices, labels)
