"""How does a value stand as text where no database is asked? For people, and to tell rows apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal as Number
from uuid import UUID

import pyarrow as pa


def texts(column: pa.Array) -> list[str | None]:
    """Each value as text; None for NULL. Different values of one type have different texts.

    The text is Arrow's own, which keeps what Python's values would lose: nanoseconds, and wide types. Bytes
    are written in hexadecimal, 16 of a fixed size as a UUID; lists and structures as in JSON. What Arrow has
    no type for and holds in bytes is written as DuckDB does.
    """
    if isinstance(column.type, pa.OpaqueType) and column.type.type_name in _OPAQUE:
        write = _OPAQUE[column.type.type_name]
        return [None if value is None else write(value) for value in column.storage.to_pylist()]
    if isinstance(column.type, pa.Bool8Type):
        column = column.storage.cast(pa.bool_())
    column = _stored(column)
    kind = column.type
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16:
        return [None if value is None else str(UUID(bytes=value)) for value in column.to_pylist()]
    if pa.types.is_fixed_size_binary(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [None if value is None else value.hex() for value in column.to_pylist()]
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return [_nested(column.slice(at, 1)) for at in range(len(column))]
    try:
        found: list[str | None] = column.cast(pa.string()).to_pylist()
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return [None if value is None else str(value) for value in column.to_pylist()]
    return found


def _stored(column: pa.Array) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def _nested(value: pa.Array) -> str | None:
    """The one list, map or structure in `value`."""
    if value.null_count:
        return None
    if pa.types.is_struct(value.type):
        fields = zip(value.type.names, value.flatten(), strict=True)
        return "{" + ",".join(f"{json.dumps(name)}:{_within(field)[0]}" for name, field in fields) + "}"
    return "[" + ",".join(_within(value[0].values)) + "]"


def _within(column: pa.Array) -> list[str]:
    quoted = pa.types.is_string(_stored(column).type) or pa.types.is_large_string(_stored(column).type)
    return [
        "null" if text is None else json.dumps(text, ensure_ascii=False) if quoted else text
        for text in texts(column)
    ]


def _bits(raw: bytes) -> str:
    """The count of padding bits, then those and the bits (src/common/types/bit.cpp of DuckDB)."""
    return "".join(f"{octet:08b}" for octet in raw[1:])[raw[0] :]


def _bignum(raw: bytes) -> str:
    """A header of three bytes, then the magnitude, all of it complemented when negative (bignum.cpp)."""
    negative = not raw[0] & 0x80
    magnitude = int.from_bytes(bytes(octet ^ 0xFF for octet in raw[3:]) if negative else raw[3:], "big")
    return f"{'-' * negative}{Number(magnitude)}"  # `int` refuses to write more than 4300 digits


_MOST_OFFSET = 16 * 3600 - 1
"""Seconds, by which DuckDB stores the offset of a time: the greatest less this one (datetime.hpp)."""


def _time_with_zone(raw: bytes) -> str:
    """Microseconds, and in the lower 24 bits the offset."""
    bits = int.from_bytes(raw, "little")
    seconds, micros = divmod(bits >> 24, 1_000_000)
    offset = _MOST_OFFSET - (bits & 0xFFFFFF)
    east = abs(offset)
    fraction = f".{micros:06}".rstrip("0") if micros else ""
    minutes = f":{east // 60 % 60:02}" if east % 3600 else ""
    odd = f":{east % 60:02}" if east % 60 else ""
    zone = f"{'-' if offset < 0 else '+'}{east // 3600:02}{minutes}{odd}"
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}{zone}"


_OPAQUE: Mapping[str, Callable[[bytes], str]] = {
    "hugeint": lambda raw: str(int.from_bytes(raw, "little", signed=True)),
    "uhugeint": lambda raw: str(int.from_bytes(raw, "little")),
    "bignum": _bignum,
    "bit": _bits,
    "time_tz": _time_with_zone,
}
"""How the types of DuckDB are written that Arrow knows by name alone."""
