"""How does a batch of the source become one block? With version and deletion columns, less its bad rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from clickhouse_cityhash import cityhash

from cdc.change import Batch, Column, FailedRow
from cdc.failed_row import failed_row
from cdc.target.native.block import NativeBlock, encode_block
from cdc.target.types import numbers
from cdc.target.types.codec import ColumnCodec, Mask, any_row


def encode_batch(
    batch: Batch,
    codecs: Sequence[ColumnCodec],
    *,
    version_column: str,
    deleted_column: str,
) -> tuple[NativeBlock, tuple[FailedRow, ...]]:
    """`batch` as one block, and the rows that its target's types cannot hold.

    The block's columns are the plan's, in order, then `version_column UInt64` and `deleted_column UInt8`.
    """
    batch, failed = _without_bad_rows(batch, codecs)
    if batch.deleted is None:
        deleted = pa.array(np.zeros(len(batch), np.uint8))
    else:
        deleted = batch.deleted.cast(pa.uint8())
    own = (Column(version_column, "UBIGINT", False), Column(deleted_column, "UTINYINT", False))
    columns = [*codecs, *(ColumnCodec(column, numbers.fixed(column.type)) for column in own)]
    arrays = [*batch.rows.columns, batch.versions, deleted]
    return encode_block(columns, arrays, len(batch)), failed


def block_token(batch: Batch, block: NativeBlock, generation: int = 0) -> str:
    """The insert's deduplication token: the same for the same table, mark and content, on every run.

    Versions and deletion marks are content: a row that returns to an older state is another insert. So is a
    row of another `generation`: one sent again on purpose, which the target may no longer have.
    """
    digest = hashlib.blake2b(digest_size=16)
    mark = batch.mark.to_json() if batch.mark else ""
    digest.update(f"{batch.plan.table}\0{batch.plan.target}\0{mark}\0{block.rows}\0".encode())
    if generation:
        digest.update(f"{generation}\0".encode())
    for column in block.columns:
        digest.update(f"{column.name}\0{column.clickhouse_type}\0".encode())
        for part in column.data:
            content = cityhash.CityHash128(part)
            digest.update(content.to_bytes(16, "little") + len(part).to_bytes(8, "little"))
    return digest.hexdigest()


def _without_bad_rows(batch: Batch, codecs: Sequence[ColumnCodec]) -> tuple[Batch, tuple[FailedRow, ...]]:
    """The rows that can be encoded, and the others as failed rows with the first reason found."""
    reasons: dict[int, str] = {}
    masks: list[Mask] = []
    for codec, array in zip(codecs, batch.rows.columns, strict=True):
        for rejected in codec.rejects(array):
            masks.append(rejected.rows)
            for row in np.flatnonzero(rejected.rows).tolist():
                reasons.setdefault(row, f"column {codec.name!r}: {rejected.reason}")
    if not masks:
        return batch, ()
    failed = tuple(failed_row(batch, row, reasons[row]) for row in sorted(reasons))
    keep = pa.array(~any_row(masks))
    kept = Batch(
        plan=batch.plan,
        rows=batch.rows.filter(keep),
        versions=batch.versions.filter(keep),
        mark=batch.mark,
        position=batch.position,
        seen_at=batch.seen_at,
        deleted=None if batch.deleted is None else batch.deleted.filter(keep),
    )
    return kept, failed
