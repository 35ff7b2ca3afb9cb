"""How do many small record batches become few large ones?

FINAL delivers a few thousand rows at a time, and each batch costs calls: of a hash, of an insert.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

_ROWS = 65_536
_BYTES = 16 << 20


def joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in the same order, in batches of about 65,536 rows or 16 MB.

    Those with nested values or enumerations are left as they come: Arrow cannot join all of them.
    """
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        if any(pa.types.is_nested(kind) or pa.types.is_dictionary(kind) for kind in batch.schema.types):
            yield batch
            continue
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= _ROWS or size >= _BYTES:
            yield pa.concat_batches(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.concat_batches(waiting)
