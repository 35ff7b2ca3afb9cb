"""What was committed to the log since the last look, across checkpoints?

A `LogFollower` is put at a position, and then hands out every later commit once, as its frames. A
checkpoint ends a log: its rest is read from the descriptor that was kept open, and the next log is
followed from its start. Where a log was emptied in place, or a whole one may have come and gone between two
looks, it says that commits are missing, and whether a log may have held them; it cannot know of a commit that
bypassed the log, so whoever needs every row compares with a snapshot after each checkpoint.

Commits written while a checkpoint runs wait in a log of their own until it has ended, a few milliseconds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from cdc.change import NOWHERE, Position
from cdc.source.file.passing import PassingLogs
from cdc.source.file.pin import Pin, Pinner
from cdc.source.file.places import LOG
from cdc.source.format import frames
from cdc.source.format.log import FRAMED, meta_block_of, parse_log_header, reader_at

MAX_ROUND_BYTES = 64 << 20
"""The most log that one look reads: beyond it, a snapshot is cheaper and bounded."""
_HEAD_BYTES = 512
_TAIL_BYTES = 2048
"""Of a log before the place in it, which are still to be there when its rest is read."""


class NotFollowable(Exception):
    """The log cannot be followed from here; the message says why. A snapshot can still be read."""


class AnotherHistory(NotFollowable):
    """What is in the file and its log is not the continuation of what was handed out."""


@dataclass(frozen=True, slots=True)
class Commits:
    """Commits of one log, whole and in order."""

    frames: tuple[bytes, ...]
    position: Position
    """Where the last of them ends."""
    checkpointed: bool = False
    """They are the first of a new log: the file now holds what came before, and its rows have other ids."""
    missing: bool = False
    """Commits before these may not have been seen."""
    unread: bool = False
    """And they may have been in a log, or at its end, for one came and went."""

    def and_then(self, later: Commits) -> Commits:
        """These and `later` ones of the same log."""
        return replace(self, frames=self.frames + later.frames, position=later.position)


class LogFollower:
    """Follows the logs of one database. It keeps a descriptor of the present log open; not thread safe."""

    def __init__(self, pinner: Pinner, passing: PassingLogs | None = None) -> None:
        self._pinner = pinner
        self._passing = passing
        self._file: int | None = None
        self._position = NOWHERE
        self._header_size = 0
        self._entries: int | None = None
        """When the directory last changed, as of a look at which there was no log."""
        self._missed = 0
        """How many logs had come and gone unseen, as of that look."""
        self._tail = b""
        """The bytes of the present log before the place."""
        self._marker: int | None = None
        """The checkpoint that the present log ends with, as its rest was read."""
        self.header = b""
        """The bytes before the first frame of the present log."""

    @property
    def position(self) -> Position:
        """Everything up to here was handed out."""
        return self._position

    def start(self, position: Position) -> Commits:
        """Follow from `position` on, in the present log; returns what the log holds up to there.

        Raises:
            NotFollowable: a checkpoint came since, or the log is encrypted or of an unknown version.
            SourceError: the file cannot be read.
        """
        self.close()
        before = self._read_entries(), self._read_missed()
        with self._pinner.pin() as pin:
            if pin.headers.encrypted:
                raise NotFollowable("the log is encrypted")
            self._check_history(pin, position)
            if position.era < pin.history.log_era:
                raise NotFollowable("a checkpoint ran meanwhile")
            self._take(pin)
            self._note(*before)
            found = self._read_to(position.offset)
            place = pin.history.place
        self._position = place if place.offset == position.offset else position
        return Commits(found, self._position)

    def look(self) -> list[Commits]:
        """The commits since the last look, one element for each log they are in; none, when there is nothing.

        Raises:
            AnotherHistory: the log was cut back, or another file took the place of the one before.
            NotFollowable: more than `MAX_ROUND_BYTES` came, or a log of an unknown version.
            SourceError: the file cannot be read.
        """
        before = self._read_entries(), self._read_missed()
        with self._pinner.pin() as pin:
            self._check_history(pin, self._position)
            if pin.position == self._position:
                found = []
            elif self._position.era >= pin.history.log_era:
                found = self._more_of_this_log(pin)
            else:
                found = [*self._rest_of_old_log(), self._new_log(pin)]
        self._note(*before)
        return found

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _check_history(self, pin: Pin, position: Position) -> None:
        if position.era < pin.history.line_era:
            raise AnotherHistory(pin.history.broken)

    def _more_of_this_log(self, pin: Pin) -> list[Commits]:
        if self._file is None:
            self._take(pin)
        log = pin.logs.get(LOG)
        if log is None:
            self._position = _at(pin, 0)
            return []
        before = self._position.offset
        found, end = self._read(before, log.size)
        self._position = _at(pin, end)  # of a later era, perhaps, than the same place was before
        return [Commits(found, self._position)] if end != before else []

    def _rest_of_old_log(self) -> list[Commits]:
        if self._file is None:
            return []
        size, tail, place = os.fstat(self._file).st_size, self._tail, self._position.offset
        if size < place or reader_at(self._file)(place - len(tail), len(tail)) != tail:
            return []  # emptied in place, or cut back and written anew
        found, end = self._read(self._position.offset, size)
        self._position = replace(self._position, offset=end, proof=None)
        return [Commits(found, self._position)] if found else []

    def _new_log(self, pin: Pin) -> Commits:
        missing = pin.position.iteration > self._position.iteration + 1 or not self._has_kept_all(pin)
        unread = missing and not self._had_no_log(pin)
        self._take(pin)
        log = pin.logs.get(LOG)
        found, end = self._read(0, log.size) if log is not None else ((), 0)
        self._position = _at(pin, end)
        return Commits(found, self._position, checkpointed=True, missing=missing, unread=unread)

    def _has_kept_all(self, pin: Pin) -> bool:
        """Whether the old log was read to its end: up to the word that the checkpoint at hand follows.

        DuckDB 1.x empties its log in place, and writes the next one into the same file.
        """
        active = pin.headers.active
        return self._file is not None and active is not None and self._marker == active.meta_block

    def _had_no_log(self, pin: Pin) -> bool:
        """Whether no log with a commit came since the last look: there was none then, and the directory is as
        it was, or every log that came is known to have held none."""
        if self._file is not None or self._entries is None:
            return False
        if self._entries == self._read_entries():
            return True
        passed = self._position.iteration, pin.position.iteration
        return self._passing is not None and self._passing.held_no_commit(*passed, self._missed)

    def _read_entries(self) -> int | None:
        """When files were last created, renamed or removed where the log may lie: the sum of nanoseconds."""
        try:
            return sum(os.stat(os.path.dirname(name) or ".").st_mtime_ns for name in self._pinner.names)
        except OSError:
            return None  # the pin will say so

    def _read_missed(self) -> int:
        return self._passing.missed if self._passing is not None else 0

    def _note(self, entries: int | None, missed: int) -> None:
        """Keep what was read before the pin, unless there is a log, which may be emptied in place."""
        there = self._file is not None or os.path.exists(self._pinner.log_path)
        self._entries = None if there else entries
        self._missed = missed

    def _take(self, pin: Pin) -> None:
        """Keep the pinned log open, to read its rest once it is gone from its path."""
        self.close()
        log = pin.logs.get(LOG)
        self._header_size, self._tail, self._marker = 0, b"", None
        if log is None:
            return
        head = reader_at(log.file)(0, _HEAD_BYTES)
        header = parse_log_header(head)
        if header is None or header.version != FRAMED:
            version = "unreadable" if header is None else f"of version {header.version}"
            raise NotFollowable(f"the log is {version}")
        self._header_size = header.size
        self.header = head[: header.size]
        self._file = os.dup(log.file)

    def _read_to(self, offset: int) -> tuple[bytes, ...]:
        found, end = self._read(0, offset)
        if end != offset:
            raise NotFollowable("a checkpoint is running")
        return found

    def _read(self, start: int, stop: int) -> tuple[tuple[bytes, ...], int]:
        """The frames of the whole commits from byte `start` of the log, and where the last one ends."""
        start = max(start, self._header_size)
        if self._file is None or stop <= start:
            return (), 0 if start == self._header_size else start
        if stop - start > MAX_ROUND_BYTES:
            raise NotFollowable(f"{(stop - start) >> 20} MB of log came at once")
        raw = reader_at(self._file)(start, stop - start)
        whole: list[bytes] = []
        pending: list[bytes] = []
        end, at = (0 if start == self._header_size else start), start
        for frame in frames.read_frames(raw):
            at += len(frame)
            kind = frames.kind(frame)
            if kind == frames.CHECKPOINT:
                self._marker = meta_block_of(frame)
                break
            if kind == frames.COMMIT:
                whole += pending
                pending.clear()
                end = at
            elif kind != frames.SEQUENCE_VALUE:
                pending.append(frame)
        if end > start:
            self._tail = (self._tail + raw[: end - start])[-_TAIL_BYTES:]
        return tuple(whole), end


def _at(pin: Pin, offset: int) -> Position:
    """The place `offset` of the pinned log."""
    place = pin.history.place
    return place if place.offset == offset else replace(place, offset=offset, proof=None)
