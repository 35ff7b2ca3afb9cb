"""Which row groups of a table did a checkpoint write anew, and does the log explain all of them?

A checkpoint leaves a row group where it is if nothing in it changed: its segments then lie in the same
blocks, which no checkpoint overwrites while the one before stands. So between two checkpoints that follow
each other, a row group with the same block pointers (and, for constant segments, which have no block, the
same statistics) holds the same rows. Deletions do not show in the pointers; the number of live rows tells.

Reading them costs by the file's metadata: about 0.1 s for 10 million rows of 11 columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np

from cdc.source.quote import identifier, literal
from cdc.source.tail.checkpoint_base import CheckpointBase

_SEGMENTS = """
SELECT sum(count) FILTER (column_path = '[0, 0]'),
    sum(hash(column_path, segment_id, count, compression, block_id, block_offset, additional_block_ids,
        CASE WHEN block_id IS NULL OR block_id < 0 THEN stats::VARCHAR END))
FROM pragma_storage_info({0}) GROUP BY row_group_id ORDER BY row_group_id
"""
"""The path `[0, 0]` is the first column's validity, which has one entry for each row whatever the type."""


Content = tuple[int, int]
"""The number of some rows, and the sum of hashes of all their values."""


@dataclass(frozen=True, slots=True)
class Logged:
    """What the log did to the table since the checkpoint before."""

    inserted: int
    deleted: int
    touched: np.ndarray[Any, np.dtype[np.int64]]
    """Row ids of stored rows that were updated or deleted."""


@dataclass(frozen=True, slots=True)
class RowGroups:
    """The row groups of one table at one checkpoint, in order."""

    iteration: int
    stored_rows: int
    live_rows: int
    ends: tuple[int, ...]
    """The row id after each one's last; empty where a checkpoint left gaps, so that they are not known."""
    digests: tuple[int, ...]
    last: int = -1
    """Where the ends are not known, the greatest row id of a live row."""

    @property
    def end(self) -> int:
        """The row id after every row's."""
        return self.ends[-1] if self.ends else max(self.stored_rows, self.last + 1)

    def rewritten_since(self, before: RowGroups) -> list[int] | None:
        """Numbers of the row groups that `before` does not have; None where that cannot be said."""
        if self.iteration != before.iteration + 1 or (self.digests and not self.ends):
            return None
        known = set(before.digests)
        return [number for number, digest in enumerate(self.digests) if digest not in known]

    def explained_by(self, before: RowGroups, logged: Logged) -> bool:
        """Whether all that row groups show is what the log did: numbers of rows, and which groups are other.
        It is proof where also `kept_all`, and nothing was written anew; see `changed_since`."""
        if self.iteration != before.iteration + 1:
            return False
        if self.stored_rows > before.stored_rows + logged.inserted or self._more_than(before, logged):
            return False
        changed = self.changed_since(before)
        if changed is None:
            return bool(logged.inserted or len(logged.touched))
        explained = {int(n) for n in np.unique(np.searchsorted(before.ends, logged.touched, side="right"))}
        if logged.inserted:
            explained.add(len(before.ends) - 1)
        return explained.issuperset(changed)

    def kept_all(self, before: RowGroups, logged: Logged) -> bool:
        """Whether the checkpoint stored every row, deleted or not, and no other: then rows deleted without
        the log are missing in the number of live ones, for none can have come in their place."""
        return self.stored_rows == before.stored_rows + logged.inserted

    def changed_since(self, before: RowGroups) -> list[int] | None:
        """Numbers of the row groups of `before` that were written anew; None where gaps in the row ids hide
        which ones were."""
        known = set(self.digests)
        gone = [number for number, digest in enumerate(before.digests) if digest not in known]
        return None if gone and not before.ends else gone

    def appeared(self, before: RowGroups, logged: Logged) -> int:
        """Rows that were inserted, and not by the log."""
        return max(0, self._more_than(before, logged))

    def _more_than(self, before: RowGroups, logged: Logged) -> int:
        return self.live_rows - (before.live_rows + logged.inserted - logged.deleted)

    def unmoved_since(self, before: RowGroups) -> list[tuple[int, int]]:
        """The row ids of the row groups that `before` has too, with the same row ids."""
        if not (self.ends and before.ends):
            return []
        known = {(digest, before.row_ids(number)) for number, digest in enumerate(before.digests)}
        spans = ((digest, self.row_ids(number)) for number, digest in enumerate(self.digests))
        return [span for digest, span in spans if (digest, span) in known]

    def row_ids(self, number: int) -> tuple[int, int]:
        """The first row id of a row group, and the one after its last."""
        return (self.ends[number - 1] if number else 0), self.ends[number]


def read_content(
    cursor: duckdb.DuckDBPyConnection, base: CheckpointBase, columns: Sequence[str], span: tuple[int, int]
) -> Content:
    """What the rows of the table of `base` are whose row ids are in `span`: their number, and the sum of
    hashes of their values in `columns`.

    Raises:
        duckdb.Error: they cannot be read.
    """
    found = cursor.execute(
        f"SELECT count(*), CAST(sum(hash({', '.join(map(identifier, columns))})) % 18446744073709551616"
        f" AS UBIGINT)"
        f" FROM {base.relation} WHERE rowid >= {span[0]} AND rowid < {span[1]}"
    ).fetchall()
    return int(found[0][0]), int(found[0][1] or 0)


def read_groups(cursor: duckdb.DuckDBPyConnection, base: CheckpointBase) -> RowGroups:
    """The row groups of the table of `base`.

    Raises:
        duckdb.Error: they cannot be read.
    """
    if not base.exists:
        return RowGroups(base.iteration, 0, 0, (), ())
    run = cursor.execute
    [(live, beyond)] = run(
        f"SELECT (SELECT count(*) FROM {base.relation}), (SELECT max(rowid) FROM {base.relation}"
        f" WHERE rowid >= {base.stored_rows})"
    ).fetchall()
    found = run(_SEGMENTS.format(literal(base.relation))).fetchall()
    ends: list[int] = []
    for rows, _ in found:
        ends.append((ends[-1] if ends else 0) + int(rows or 0))
    known = beyond is None and (not ends or ends[-1] == base.stored_rows)
    return RowGroups(
        base.iteration,
        base.stored_rows,
        live,
        tuple(ends) if known else (),
        tuple(int(digest) for _, digest in found),
        -1 if beyond is None else int(beyond),
    )
