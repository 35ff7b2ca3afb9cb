"""Which rows did a snapshot find that the log, followed without a break, never showed?

They were committed without the log: a checkpoint took them in. So a count begins with a checkpoint, and only
where the tail has followed every log since a snapshot had everything: what a first snapshot finds, or one
after commits that are known to have gone unread, says nothing of the tail. A snapshot past the mark does not
tell them all, for later commits may have moved the mark over them: how many more rows a checkpoint left than
the log explains is counted if that is more.

What a snapshot finds first, the tail may show a moment later: commits during a checkpoint stand in a log
that is followed once the checkpoint has ended. And what the tail shows first, a snapshot that is handed out
in batches may show once more. So the rows found wait, by their keys, until the tail has come as far as the
source was when they were found; then those it did not show are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb
import pyarrow as pa

from cdc.change import Position
from cdc.source.quote import identifier

_MOST_ROWS = 1_000_000
"""Rows that are remembered at most. More found ones are too many to be of commits that the log shows a moment
later; while more are shown, nothing is counted."""
_FOUND, _SHOWN = "cdc_gap_found", "cdc_gap_shown"


class Gap:
    """Counts the gaps of one table; `tell` is called with the rows of one."""

    def __init__(self, key: Sequence[str], tell: Callable[[int], None]) -> None:
        self._key = list(dict.fromkeys(key))
        self._tell = tell
        self._complete = False
        """A snapshot has had everything, and every log since was followed."""
        self.counting = False
        """A checkpoint came, and what the snapshot after it finds is compared."""
        self._found: list[tuple[Position, pa.Table]] = []
        """Keys that wait for the tail, and until when."""
        self._shown: list[pa.Table] = []
        self._rows = 0
        self._appeared = 0

    def complete(self) -> None:
        """A snapshot was read to its end, the tail stands behind none of it, and no checkpoint came since."""
        self._complete = True

    def checkpoint(self, appeared: int = 0) -> None:
        """The tail has followed the log past a checkpoint: a snapshot is read next, or goes on. `appeared`:
        rows in the file whose insertion the log does not explain."""
        self.counting |= self._complete
        self._appeared += appeared

    def broken(self) -> None:
        """The log was not followed to here: what was found and not shown may have been in it."""
        self._found.clear()
        self.end()
        self._complete = False

    def found(self, rows: pa.RecordBatch, newest: Position) -> None:
        """A snapshot found `rows`, not handed out before; `newest` is the source's position now."""
        keys = pa.Table.from_batches([rows.select(self._key)])
        if sum(part.num_rows for _, part in self._found) > _MOST_ROWS:
            self._rows += keys.num_rows
        else:
            self._found.append((newest, keys))

    def shown(self, relation: str, cursor: duckdb.DuckDBPyConnection) -> None:
        """The log showed the rows of `relation`.

        Raises:
            duckdb.Error: they cannot be read.
        """
        if not self.counting:
            return
        keys = ", ".join(map(identifier, self._key))
        self._shown.append(cursor.sql(f"SELECT {keys} FROM {relation}").to_arrow_table())
        if sum(part.num_rows for part in self._shown) > _MOST_ROWS:
            self.broken()

    def passed(self, position: Position, cursor: duckdb.DuckDBPyConnection) -> None:
        """Everything up to `position` was shown.

        Raises:
            duckdb.Error: the rows cannot be compared.
        """
        ready = [keys for newest, keys in self._found if newest <= position]
        if ready:
            self._found = [(newest, keys) for newest, keys in self._found if newest > position]
            self._rows += self._not_shown(pa.concat_tables(ready), cursor)

    def end(self) -> None:
        """The snapshot after the checkpoint was read to its end. What waits for the tail goes on waiting."""
        if self._found:
            return
        if rows := max(self._rows, self._appeared):
            self._tell(rows)
        self._rows, self._appeared, self.counting = 0, 0, False
        self._shown.clear()

    def _not_shown(self, found: pa.Table, cursor: duckdb.DuckDBPyConnection) -> int:
        if not self._shown:
            return int(found.num_rows)
        same = " AND ".join(f"f.{name} IS NOT DISTINCT FROM s.{name}" for name in map(identifier, self._key))
        tables = {_FOUND: found, _SHOWN: pa.concat_tables(self._shown)}
        for name, table in tables.items():
            cursor.register(name, table)
        try:
            sql = f"SELECT count(*) FROM {_FOUND} AS f ANTI JOIN {_SHOWN} AS s ON {same}"
            [(left,)] = cursor.execute(sql).fetchall()
        finally:
            for name in tables:
                cursor.unregister(name)
        return int(left)
