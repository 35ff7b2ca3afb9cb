"""How do record batches of any size become batches within exact bounds?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from cdc.change import BatchLimits


def rebatch(batches: Iterable[pa.RecordBatch], limits: BatchLimits) -> Iterator[pa.RecordBatch]:
    """The same rows in the same order, in batches of exactly `limits.rows` but for the last.

    A batch of more than `limits.bytes` is cut where it is full; one row is never cut.
    """
    for batch in _by_rows(batches, limits.rows):
        yield from _by_bytes(batch, limits.bytes)


def _by_rows(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += batch.num_rows
        while count >= rows:
            last = waiting[-1]
            head = last.num_rows - (count - rows)
            yield _joined([*waiting[:-1], last.slice(0, head)])
            waiting, count = [last.slice(head)], last.num_rows - head
    if count:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    batches = [batch for batch in batches if batch.num_rows]
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _by_bytes(batch: pa.RecordBatch, limit: int) -> Iterator[pa.RecordBatch]:
    start = 0
    while start < batch.num_rows:
        rest = batch.slice(start)
        fits = _rows_that_fit(rest, limit)
        yield rest.slice(0, fits)
        start += fits


def _rows_that_fit(batch: pa.RecordBatch, limit: int) -> int:
    """The most leading rows of at most `limit` bytes, at least one, by bisection."""
    if batch.get_total_buffer_size() <= limit or batch.nbytes <= limit:  # the first is told at once
        return int(batch.num_rows)
    fits, too_many = 1, batch.num_rows
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if batch.slice(0, middle).nbytes <= limit:
            fits = middle
        else:
            too_many = middle
    return fits
