"""How does a value stand as text where no database is asked? For people, and to tell rows apart."""

from __future__ import annotations

import json
from uuid import UUID

import pyarrow as pa


def texts(column: pa.Array) -> list[str | None]:
    """Each value as text; None for NULL. Different values of one type have different texts.

    The text is Arrow's own, which keeps what Python's values would lose: nanoseconds, and wide types. Bytes
    are written in hexadecimal, 16 of a fixed size as a UUID; lists and structures as in JSON.
    """
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
