"""Is the file still the database it was, and does its history go on from what was seen?

A path can come to hold another database, or an older copy of the same; a log can be cut back and grow past
the same place. So every stretch of history has an era, a number that only grows: it is a new one after each
checkpoint, and whenever what is there is not known to be the continuation of what was there.
"""

from __future__ import annotations

from pathlib import Path

from cdc.eras import Eras
from cdc.errors import SourceReplaced


class History:
    """What was seen of one database: its identity and its eras. For one thread at a time."""

    def __init__(self, path: Path, eras: Eras) -> None:
        self._path = path
        self._eras = eras
        self.identity = ""
        self.era = 0
        """That of the newest position."""
        self.log_era = 0
        """Positions from this era on lie in the present log, or before its first commit;"""
        self.line_era = 0
        """positions from this one on, in the present history."""
        self.broken = ""
        """Why the history before it ended."""

    def note(self, identity: str, *, checkpointed: bool, broken: str | None) -> int:
        """The database `identity` was seen; answers the era of what it holds now.

        Args:
            checkpointed: another log began since the last time.
            broken: why it is not the continuation of what was seen.

        Raises:
            SourceReplaced: it is another database.
        """
        if self.identity and identity != self.identity:
            raise SourceReplaced(
                "follow",
                self._path,
                f"another database took its place (it was {self.identity}, and is {identity})",
                "A replicator goes on with the new one by itself; run a command again",
            )
        self.identity = identity
        if not self.era or checkpointed or broken is not None or self.era < self._eras.floor:
            self.era = self._eras.take()
        if broken is not None:
            self.line_era, self.broken = self.era, broken
        if not self.line_era:
            self.line_era = self.era
        if checkpointed or broken is not None or not self.log_era:
            self.log_era = self.era
        return self.era
