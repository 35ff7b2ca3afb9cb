"""How do the values of a failed row stand as text?"""

from __future__ import annotations

import pyarrow as pa


def row_values(payload: bytes) -> list[tuple[str, str, str | None]]:
    """Name, Arrow type and text of each value of a failed row; None for NULL.

    The text is Arrow's own, which keeps what Python's values would lose: nanoseconds, and wide types.
    """
    with pa.ipc.open_stream(payload) as reader:
        row = reader.read_next_batch()
    return [
        (name, str(column.type), _value(column))
        for name, column in zip(row.schema.names, row.columns, strict=True)
    ]


def _value(column: pa.Array) -> str | None:
    if not column.is_valid()[0].as_py():
        return None
    if isinstance(column, pa.ExtensionArray):
        if isinstance(column.type, pa.UuidType):
            return str(column[0].as_py())
        column = column.storage
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return str(column[0].as_py().hex())
    try:
        return str(column.cast(pa.string())[0].as_py())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return str(column.to_string(indent=0, skip_new_lines=True))[1:-1]
