"""Is the file still the database it was, and has it only gone forward?

A path can come to hold another database, or an older copy of the same: then marks and versions mean nothing,
and going on would skip rows in silence.
"""

from __future__ import annotations

import os
from pathlib import Path

from cdc.change import Position
from cdc.errors import SourceReplaced
from cdc.source.format.headers import Headers

_EPOCH = 1_735_689_600
"""2025-01-01: see `History.iteration`."""


class History:
    """What was seen of one database: its identity and its newest position. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._newest = Position(0, 0)
        self._stand_in = 0
        self._seen: tuple[bytes, int | None] | None = None
        self.identity = ""

    def iteration(self, headers: Headers, file: int, seen: tuple[bytes, int | None]) -> int:
        """The number of the newest checkpoint.

        In an encrypted file nobody can read it without the key. What stands for it are the seconds of the
        file's last change; it grows with each change of `seen`, which are the raw headers and the iteration
        that the log follows, and across restarts, as long as the clock does.
        """
        if headers.active is not None:
            return headers.active.iteration
        if seen != self._seen:
            self._stand_in = max(self._stand_in + 1, int(os.fstat(file).st_mtime) - _EPOCH)
            self._seen = seen
        return self._stand_in

    def note(self, identity: str, position: Position) -> None:
        """The database `identity` was seen at `position`.

        Raises:
            SourceReplaced: it is another one, or has gone back.
        """
        if self.identity and identity != self.identity:
            raise SourceReplaced(
                "follow",
                self._path,
                f"another database took its place (it was {self.identity}, and is {identity})",
                "Restart to replicate the new one from its beginning, or put the old file back",
            )
        if position < self._newest:
            raise self._went_back(self._newest, position)
        self.identity, self._newest = identity, position

    def expect(self, since: Position) -> None:
        """The database must have reached `since`, where an earlier run has read it.

        Raises:
            SourceReplaced: it has not.
        """
        if self._seen is None and self._newest < since:  # a stand-in says nothing from one run to the next
            raise self._went_back(since, self._newest)

    def _went_back(self, before: Position, now: Position) -> SourceReplaced:
        return SourceReplaced(
            "follow",
            self._path,
            f"it went back from position {before} to {now}: an older copy, or a new database, took its place",
            "Reset the watermarks of its tables, or put the newer file back, and restart",
        )


def identify(headers: Headers, file: int) -> str:
    """The database's identifier; in files of 1.x, which have none, the file's own number in its file system.

    A copy of such a file is therefore another source. File systems use numbers again: `History.expect` finds
    out when a new file got the number of the one before.
    """
    return headers.identifier or f"file-{os.fstat(file).st_ino:x}"
