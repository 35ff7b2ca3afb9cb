"""How are the rows and groups of a batch told apart? By the text of their values."""

from __future__ import annotations

import pyarrow as pa

from cdc.text import texts

Key = tuple[str | None, ...]


def keys(rows: pa.RecordBatch, names: tuple[str, ...]) -> list[Key]:
    """Each row's values of these columns."""
    return list(zip(*(texts(rows.column(name)) for name in names), strict=True))
