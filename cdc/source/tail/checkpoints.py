"""Did a checkpoint leave anything of one table that the log before it did not show?

Row groups tell which blocks are other and how many rows there are; where that leaves a doubt and it costs
little, the rows themselves are read. What cannot be said is told as a doubt, for somebody to compare.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from cdc.source.tail.checkpoint_base import CheckpointBase
from cdc.source.tail.row_groups import Content, Logged, RowGroups, read_content, read_groups


class Checkpoints:
    """The checkpoints of one table, one after another; for one thread."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> None:
        """`columns` are the stored ones."""
        self._cursor = cursor
        self._columns = columns
        self.groups: RowGroups | None = None
        """The row groups of the last one."""
        self.explained = True
        """Whether the log before explains them, as far as they show it."""
        self.doubtful = False
        """An update without the log may lie in row groups that the log changed as well."""
        self.appeared = 0
        """Rows that the log does not explain the insertion of."""
        self.logged: Logged | None = None
        """What it did; None: it was not followed from its beginning on."""
        self._last_group: tuple[tuple[int, int], Content] | None = None
        """The row ids of the last row group, and what its rows are."""

    def reached(self, base: CheckpointBase, logged: Logged | None) -> None:
        """The checkpoint that left `base` is the last one; `logged` is what the log did since the one before,
        None where there is none.

        Raises:
            duckdb.Error, SnapshotSuperseded: the file cannot be read, or a later checkpoint has overtaken it.
        """
        before = self.groups
        try:
            self.groups = groups = read_groups(self._cursor, base)
            if before is not None and logged is not None:
                self.logged = logged
                unchanged = self._unchanged(before, groups, logged, base)
                self.explained = groups.explained_by(before, logged) and unchanged is not False
                self.doubtful = self.explained and unchanged is None
                self.appeared = groups.appeared(before, logged)
            self._last_group = self._read_last_group(groups, base)
        except duckdb.Error:
            base.verify()  # DuckDB reports a checkpoint during its reads in many ways
            raise

    def _unchanged(
        self, before: RowGroups, groups: RowGroups, logged: Logged, base: CheckpointBase
    ) -> bool | None:
        """Whether the rows of the checkpoint `before` that the log did not change are as they were in `base`;
        None where that cannot be said. Of a log that only inserts it can: the last row group alone was
        written anew, and can be read."""
        changed = groups.changed_since(before)
        if changed is None or not groups.kept_all(before, logged):
            return None
        if not changed:
            return True
        if len(logged.touched) or changed != [len(before.digests) - 1] or self._last_group is None:
            return None
        span, content = self._last_group
        return read_content(self._cursor, base, self._columns, span) == content

    def _read_last_group(
        self, groups: RowGroups, base: CheckpointBase
    ) -> tuple[tuple[int, int], Content] | None:
        if not groups.ends:
            return None
        span = groups.row_ids(len(groups.ends) - 1)
        return span, read_content(self._cursor, base, self._columns, span)
