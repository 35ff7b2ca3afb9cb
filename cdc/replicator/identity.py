"""How are the rows and groups of a batch told apart? By the text of their values."""

from __future__ import annotations

from uuid import UUID

import pyarrow as pa

Key = tuple[str | None, ...]


def keys(rows: pa.RecordBatch, names: tuple[str, ...]) -> list[Key]:
    """Each row's values of these columns."""
    return list(zip(*(texts(rows.column(name)) for name in names), strict=True))


def texts(column: pa.Array) -> list[str | None]:
    """Each value as text; None for NULL. Different values of one type have different texts."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16:
        return [None if value is None else str(UUID(bytes=value)) for value in column.to_pylist()]
    if pa.types.is_fixed_size_binary(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [None if value is None else value.hex() for value in column.to_pylist()]
    try:
        found: list[str | None] = column.cast(pa.string()).to_pylist()  # keeps nanoseconds
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return [None if value is None else str(value) for value in column.to_pylist()]
    return found
