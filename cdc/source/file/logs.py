"""What of the two logs beside the file belongs to the view of one moment, and how far is it committed?

The log, and the one that commits go to while a checkpoint runs (DuckDB 2.0), which then replaces it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from cdc.source.file.places import CHECKPOINT_LOG, LOG
from cdc.source.format.headers import Headers
from cdc.source.format.log import LogEnd, LogWalk, ReadAt, Rewritten, reader_at


class Moved(Exception):
    """The writer changed something while a pin was taken."""


@dataclass(frozen=True, slots=True)
class PinnedLog:
    """A log's descriptor, and how much of it belongs to the view."""

    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Logs:
    """The logs of one view."""

    shown: dict[str, PinnedLog] = field(default_factory=dict)
    """What a replay is to find under each name."""
    offset: int = 0
    """The committed bytes of that."""
    walk: LogWalk | None = None
    """The walk of the log that a replay begins with,"""
    end: LogEnd | None = None
    """where that one ends,"""
    file: int | None = None
    """and its descriptor."""

    @property
    def committed(self) -> int:
        """The committed bytes of the log that a replay begins with."""
        return 0 if self.end is None else self.end.committed

    @property
    def read_at(self) -> ReadAt | None:
        """Reads that log."""
        return None if self.file is None else reader_at(self.file)


class LogWalks:
    """Walks the two logs from look to look. For one thread at a time."""

    def __init__(self) -> None:
        self._walks: dict[str, LogWalk] = {}

    def forget(self) -> None:
        """Begin every walk anew."""
        self._walks.clear()

    def look(self, suffix: str, file: int | None, fresh: bool) -> LogEnd | None:
        """Where the log ends; `fresh` starts over, for after a checkpoint the same file is another log.

        Raises:
            Moved: it changed meanwhile.
        """
        if file is None:
            self._walks.pop(suffix, None)
            return None
        status = os.fstat(file)
        file_id, read_at = (status.st_dev, status.st_ino), reader_at(file)
        walk = self._walks.get(suffix)
        if fresh or walk is None or not walk.belongs(file_id, status.st_size, read_at):
            walk = self._walks[suffix] = LogWalk(file_id, read_at(0, 512))
        try:
            end = walk.look(status.st_size, read_at)
        except Rewritten:
            self._walks.clear()
            raise Moved from None
        if end is not None and not walk.belongs(file_id, os.fstat(file).st_size, read_at):
            raise Moved  # emptied while it was walked
        return end

    def logs(
        self,
        headers: Headers,
        log: tuple[int | None, LogEnd | None],
        checkpoint_log: tuple[int | None, LogEnd | None],
    ) -> Logs:
        """What belongs to the view, of the descriptors and ends of both."""
        (file, end), (checkpoint_file, checkpoint_end) = log, checkpoint_log
        if file is None or end is None:
            return Logs()
        walk, following = self._walks.get(LOG), None
        if checkpoint_file is not None and checkpoint_end is not None:
            following = PinnedLog(checkpoint_file, checkpoint_end.end)
        if _spent(headers, end):
            self._walks.pop(LOG, None)  # DuckDB 1.x will empty this very file
            if following is None or checkpoint_end is None:
                return Logs()
            walk = self._walks.get(CHECKPOINT_LOG)
            return Logs({LOG: following}, checkpoint_end.committed, walk, checkpoint_end, checkpoint_file)
        shown = {LOG: PinnedLog(file, end.end)} if end.end else {}
        if following is None or checkpoint_end is None or (end.marker is None and not headers.encrypted):
            return Logs(shown, end.committed, walk, end, file)
        shown[CHECKPOINT_LOG] = following
        # A writer that recovers from a crash appends the one's frames to the other, without its header.
        frames = max(0, checkpoint_end.committed - checkpoint_end.header.size)
        return Logs(shown, end.committed + frames, walk, end, file)


def _spent(headers: Headers, log: LogEnd) -> bool:
    """Whether the checkpoint in the file already holds everything in the log."""
    if headers.active is None:
        return False
    if log.header.iteration is not None:
        return log.header.iteration < headers.active.iteration
    return log.marker is not None and log.marker == headers.active.meta_block
