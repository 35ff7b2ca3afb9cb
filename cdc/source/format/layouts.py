"""How do the values of one type lie in DuckDB's log, and which Arrow array do they make?

A value of fixed size is its little-endian bytes, as DuckDB holds it in memory; a text or a BLOB is a length
and bytes. Arrow has most of them alike. What differs: a UUID is a number with its top bit turned, which Arrow
has big-endian; a DECIMAL has 2, 4, 8 or 16 bytes by its width, and always 16 in Arrow; an ENUM is the number
of its label. What stands where a value is NULL is arbitrary. (DuckDB: LogicalType::GetInternalType in
types.cpp, serialize_types.cpp, extra_type_info.cpp; docs/log-format.md.)

Arrays are those that DuckDB itself exports with `arrow_lossless_conversion`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from cdc.duckdb_types import parse_type
from cdc.source.format.frames import varint

MOST_ROWS = 2048
"""Of one vector: DuckDB's STANDARD_VECTOR_SIZE, by which it cuts the chunks of its log."""

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Lengths = np.ndarray[Any, np.dtype[np.uint32]]


class NotDecodable(Exception):
    """A frame is laid out in a way that is not known here, or is damaged; the message says what was met."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Of the values of one type."""

    number: int
    """DuckDB's LogicalTypeId."""
    width: int
    """Bytes of a value; 0: they have lengths of their own."""
    arrow: pa.DataType
    widened: bool = False
    """A number that has 16 bytes in Arrow and fewer here."""
    digits: tuple[int, int] = (0, 0)
    """Width and scale of a DECIMAL."""
    labels: tuple[str, ...] = ()
    """Of an ENUM."""
    dictionary: pa.Array | None = None
    """The labels."""


_Read = tuple[str, int, int, pa.DataType]
_PLAIN: tuple[_Read, ...] = (
    ("BOOLEAN", 10, 1, pa.bool8()),
    ("TINYINT", 11, 1, pa.int8()),
    ("SMALLINT", 12, 2, pa.int16()),
    ("INTEGER", 13, 4, pa.int32()),
    ("BIGINT", 14, 8, pa.int64()),
    ("DATE", 15, 4, pa.date32()),
    ("TIME", 16, 8, pa.time64("us")),
    ("TIMESTAMP_S", 17, 8, pa.timestamp("s")),
    ("TIMESTAMP_MS", 18, 8, pa.timestamp("ms")),
    ("TIMESTAMP", 19, 8, pa.timestamp("us")),
    ("TIMESTAMP_NS", 20, 8, pa.timestamp("ns")),
    ("FLOAT", 22, 4, pa.float32()),
    ("DOUBLE", 23, 8, pa.float64()),
    ("VARCHAR", 25, 0, pa.string()),
    ("JSON", 25, 0, pa.json_()),
    ("BLOB", 26, 0, pa.binary()),
    ("UTINYINT", 28, 1, pa.uint8()),
    ("USMALLINT", 29, 2, pa.uint16()),
    ("UINTEGER", 30, 4, pa.uint32()),
    ("UBIGINT", 31, 8, pa.uint64()),
    ("TIMESTAMP WITH TIME ZONE", 32, 8, pa.timestamp("us", "UTC")),
    ("UHUGEINT", 49, 16, pa.opaque(pa.binary(16), "uhugeint", "DuckDB")),
    ("HUGEINT", 50, 16, pa.opaque(pa.binary(16), "hugeint", "DuckDB")),
    ("UUID", 54, 16, pa.uuid()),
)
_BY_NAME = {name: Layout(number, width, arrow) for name, number, width, arrow in _PLAIN}
_UUID = 54
_DECIMAL, _ENUM = 21, 104
_TEXT = 25
_BY_DIGITS = ((4, 2), (9, 4), (18, 8), (38, 16))
"""Bytes of a DECIMAL of at most so many digits."""

FLAG = Layout(10, 1, pa.int8())
"""Of an update's null flags: a BOOLEAN of which only NULL counts."""
ROW_ID = Layout(14, 8, pa.int64())


@cache
def layout_of(duckdb_type: str) -> Layout | None:
    """The layout of the type spelled like this; None where it is not known here."""
    try:
        found = parse_type(duckdb_type)
    except ValueError:
        return None
    if found.name == "DECIMAL":
        digits, scale = found.numbers
        width = next(size for most, size in _BY_DIGITS if digits <= most)
        return Layout(_DECIMAL, width, pa.decimal128(digits, scale), width < 16, (digits, scale))
    if found.name == "ENUM":
        width = next(size for size in (1, 2, 4) if len(found.labels) < 1 << (8 * size))
        kind = {1: pa.uint8(), 2: pa.uint16(), 4: pa.uint32()}[width]
        arrow = pa.dictionary(kind, pa.string())
        return Layout(
            _ENUM, width, arrow, labels=found.labels, dictionary=pa.array(found.labels, pa.string())
        )
    return _BY_NAME.get(found.name)


def array_of(
    layout: Layout,
    rows: int,
    validity: bytes | None,
    valid: Flags | None,
    data: bytes,
    lengths: Lengths | None,
) -> pa.Array:
    """The array of `rows` values.

    Args:
        validity: Arrow's bitmap, and `valid` the same as flags; None: no value is NULL.
        data: the values, one behind the other.
        lengths: of each, where they have lengths of their own; 0 where it is NULL.

    Raises:
        NotDecodable: the parts do not make one.
    """
    bitmap = None if validity is None else pa.py_buffer(validity)
    if lengths is not None:
        return _texts(layout, rows, bitmap, data, lengths)
    if len(data) != rows * layout.width:
        raise NotDecodable(f"{len(data)} bytes of {rows} values of {layout.width} bytes")
    if layout.widened:
        data = _widened(data, layout.width)
    elif layout.number == _UUID:
        data = _big_endian(data)
    if layout.dictionary is not None:
        return _labelled(layout, rows, bitmap, valid, data)
    return pa.Array.from_buffers(layout.arrow, rows, [bitmap, pa.py_buffer(data)])


def _texts(layout: Layout, rows: int, bitmap: pa.Buffer | None, data: bytes, lengths: Lengths) -> pa.Array:
    offsets = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if offsets[-1] != len(data) or len(data) >= 1 << 31:
        raise NotDecodable(f"texts of {offsets[-1]} bytes in {len(data)}")
    buffers = [bitmap, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
    array = pa.Array.from_buffers(layout.arrow, rows, buffers)
    if layout.number == _TEXT and not data.isascii():
        array.validate(full=True)
    return array


def _labelled(
    layout: Layout, rows: int, bitmap: pa.Buffer | None, valid: Flags | None, data: bytes
) -> pa.Array:
    places = np.frombuffer(data, dtype=f"<u{layout.width}")
    if valid is not None:
        places = np.where(valid, places, 0).astype(places.dtype)
    if len(places) and places.max() >= max(1, len(layout.labels)):
        raise NotDecodable(f"a label {places.max()} of {len(layout.labels)}")
    indices = pa.Array.from_buffers(layout.arrow.index_type, rows, [bitmap, pa.py_buffer(places)])
    return pa.DictionaryArray.from_arrays(indices, layout.dictionary, safe=False)


def _widened(data: bytes, width: int) -> bytes:
    values = np.frombuffer(data, dtype=f"<i{width}")
    wide = np.empty((len(values), 2), dtype="<i8")
    wide[:, 0] = values
    wide[:, 1] = wide[:, 0] >> 63
    return wide.tobytes()


def _big_endian(data: bytes) -> bytes:
    values = np.frombuffer(data, dtype=np.uint8).reshape(-1, 16)[:, ::-1].copy()
    values[:, 0] ^= 0x80
    return values.tobytes()


def read_types(raw: bytes, at: int, layouts: tuple[Layout, ...]) -> int:
    """Read the types of a chunk's columns, which must be those of `layouts`; answers where they end.

    Raises:
        NotDecodable: they are others, or are described in an unknown way.
    """
    count, at = varint(raw, at)
    if count != len(layouts):
        raise NotDecodable(f"{count} columns where {len(layouts)} are expected")
    for layout in layouts:
        at = _read_type(raw, at, layout)
    return at


def _read_type(raw: bytes, at: int, layout: Layout) -> int:
    """A LogicalType: field 100 its number, 101 whether there is more, and an ExtraTypeInfo."""
    number, at = varint(raw, _field(raw, at, 100))
    if number != layout.number:
        raise NotDecodable(f"a type numbered {number} where {layout.number} is expected")
    digits = [0, 0]
    labels: tuple[str, ...] = ()
    if (at_more := _field(raw, at, 101, optional=True)) != at:
        if raw[at_more] != 1:
            raise NotDecodable("a type's description that is absent and announced")
        info, at = varint(raw, _field(raw, at_more + 1, 100))
        if (at_alias := _field(raw, at, 101, optional=True)) != at:
            at = _skip_text(raw, at_alias)
        if info == _DECIMAL_INFO:
            for which, field in enumerate((200, 201)):
                if (at_digits := _field(raw, at, field, optional=True)) != at:
                    digits[which], at = varint(raw, at_digits)
        elif info == _ENUM_INFO:
            labels, at = _read_labels(raw, at)
        elif info == _STRING_INFO:
            if (at_collation := _field(raw, at, 200, optional=True)) != at:
                at = _skip_text(raw, at_collation)
        elif info != _GENERIC_INFO:
            raise NotDecodable(f"a type described in the way {info}")
        at = _field(raw, at, _END)
    if (tuple(digits), labels) != (layout.digits, layout.labels):
        raise NotDecodable("a DECIMAL or an ENUM of another kind than expected")
    return _field(raw, at, _END)


_GENERIC_INFO, _DECIMAL_INFO, _STRING_INFO, _ENUM_INFO = 1, 2, 3, 6
_END = 0xFFFF


def _field(raw: bytes, at: int, number: int, *, optional: bool = False) -> int:
    """Past the field's number, or if it is another one and this is optional, where it is."""
    if raw[at : at + 2] == number.to_bytes(2, "little"):
        return at + 2
    if optional:
        return at
    raise NotDecodable(f"no field {number} at byte {at}")


def _skip_text(raw: bytes, at: int) -> int:
    size, at = varint(raw, at)
    return at + size


def _read_labels(raw: bytes, at: int) -> tuple[tuple[str, ...], int]:
    counts = []
    for field in (200, 201):
        count, at = varint(raw, _field(raw, at, field))
        counts.append(count)
    if counts[0] != counts[1] or counts[0] > len(raw):
        raise NotDecodable(f"an ENUM of {counts[0]} labels that has {counts[1]}")
    labels = []
    for _ in range(counts[0]):
        size, at = varint(raw, at)
        labels.append(raw[at : at + size].decode())
        at += size
    return tuple(labels), at
