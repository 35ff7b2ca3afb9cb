"""Which bytes, of three files that another process is writing, make one consistent view?

The two database headers are a sequence lock: a checkpoint writes only into free blocks, then switches by
writing one header. Bytes that were read while the headers were the pinned ones are bytes of that checkpoint.
One kind of block is an exception: a block of metadata has 64 pieces, and a checkpoint that fills its free
pieces writes all of it again, in place. Its used pieces stay what they were, but a reader may meet the block
half written; its checksum says so, and reading it again helps.

The logs are append-only up to their committed end for as long as the headers stand. So a `Pin` is the
headers, and an open descriptor and a length for each log; every read is checked against the headers after it.

Descriptors are opened read-only and shared, no lock is taken, and nothing is written: the writer cannot
notice. (POSIX drops a process's own locks on a file when any of its descriptors closes: do not pin a file
that this very process has open for writing.)
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cdc.change import Position
from cdc.clock import Clock
from cdc.closing import Closing
from cdc.errors import Meaning, SnapshotSuperseded, SourceError
from cdc.source.file.history import History, identify
from cdc.source.file.places import CHECKPOINT_LOG, LOG, names_of, place_of_logs
from cdc.source.file.regular import open_regular
from cdc.source.format.headers import (
    HEADER_SIZE,
    HEADERS_SIZE,
    CorruptHeader,
    Headers,
    TruncatedFile,
    blocks_are_whole,
    parse_headers,
)
from cdc.source.format.log import LogEnd, LogWalk, reader_at

_ATTEMPTS = 200
"""Looks until all files stand still. One takes less than a millisecond, as does a header's write."""
_PAUSE_SECONDS = 0.002
_TORN_READS = 50
"""Reads of a block until it is whole; one is written in well under a millisecond."""


@dataclass(frozen=True, slots=True)
class PinnedLog:
    """A log's descriptor, and how much of it belongs to the view."""

    file: int
    size: int


class _Moved(Exception):
    """The writer changed something while a pin was taken."""


class Pin(Closing):
    """A consistent view of the file and its logs; reads raise once a checkpoint has overtaken it."""

    def __init__(
        self,
        path: Path,
        raw_headers: bytes,
        headers: Headers,
        position: Position,
        file: int,
        logs: dict[str, PinnedLog],
        opened: tuple[int, ...],
    ) -> None:
        self.path = path
        self.headers = headers
        self.position = position
        self.logs = logs
        self.superseded = False
        self._raw = raw_headers
        self._file = file
        self._opened = opened
        self._lock = threading.Lock()  # os.read on a shared descriptor, where there is no pread
        self._read_at = reader_at(file)
        self._closed = False

    def __repr__(self) -> str:
        state = "superseded" if self.superseded else "closed" if self._closed else "current"
        return f"Pin({self.path} at {self.position}, {state})"

    @property
    def size(self) -> int:
        """Bytes of the database file at this moment."""
        return os.fstat(self._file).st_size

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes of the database file from `offset`; fewer at its end.

        Raises:
            SnapshotSuperseded: the headers are no longer those pinned.
        """
        if offset + size <= HEADERS_SIZE:
            return self._raw[offset : offset + size]
        for _ in range(_TORN_READS):
            with self._lock:
                data = self._read_at(offset, size)
            self.verify()
            if self._is_whole(offset, data):
                return data
            time.sleep(_PAUSE_SECONDS)
        return data  # DuckDB will say that it is corrupt

    def _is_whole(self, offset: int, data: bytes) -> bool:
        """Whether no block of `data` is torn, as far as can be told: of whole blocks, not encrypted."""
        active = self.headers.active
        if active is None or not data:
            return True
        if (offset - HEADERS_SIZE) % active.block_size or len(data) % active.block_size:
            return True
        return blocks_are_whole(data, active.block_size)

    def read_log(self, suffix: str, offset: int, size: int) -> bytes:
        """`size` bytes of the pinned log from `offset`; fewer at its end.

        Raises:
            SnapshotSuperseded: the headers are no longer those pinned.
        """
        log = self.logs[suffix]
        data = reader_at(log.file)(offset, max(0, min(size, log.size - offset)))
        self.verify()
        return data

    def without_logs(self) -> Self:
        """This pin, showing the file alone, as its last checkpoint left it."""
        self.logs = {}
        return self

    def verify(self) -> None:
        """Compare the headers with those pinned.

        Raises:
            SnapshotSuperseded: they differ.
        """
        if not self.superseded:
            with self._lock:
                now = self._read_at(HEADER_SIZE, HEADERS_SIZE - HEADER_SIZE)
            self.superseded = now != self._raw[HEADER_SIZE:]
        if self.superseded:
            raise SnapshotSuperseded(
                "read", self.path, "a checkpoint overtook the snapshot", "Take a new snapshot"
            )

    def shows_what(self, other: Pin) -> bool:
        """Whether both are of one checkpoint of one file."""
        return self._raw == other._raw and os.path.sameopenfile(self._file, other._file)

    def is_superseded(self) -> bool:
        """Whether a checkpoint has overtaken this view by now."""
        try:
            self.verify()
        except SnapshotSuperseded:
            return True
        return False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            for file in self._opened:
                os.close(file)


class Pinner:
    """Takes pins of one database, and knows its newest position for the price of a few small reads.

    Safe to use from several threads.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        # As text, made once: a busy table's round takes three pins, and paths were a quarter of their cost.
        self._file_path = str(path)
        self.names = names_of(path)
        """The path, and what its links lead over: the logs lie beside one of them."""
        self._place = ""
        self._lie_beside(self.names[-1])
        self._clock = clock
        self._lock = threading.Lock()
        self._raw: bytes = b""
        self._headers: Headers | None = None
        self._walks: dict[str, LogWalk] = {}
        self._history = History(path)
        with self.pin() as pin:
            self.headers = pin.headers

    @property
    def identity(self) -> str:
        """What names the database; see `identify`."""
        return self._history.identity

    def expect(self, since: Position) -> None:
        """The database must have reached `since`, where an earlier run has read it.

        Raises:
            SourceReplaced: it has not.
            SourceError: the file cannot be read.
        """
        self.position()
        self._history.expect(since)

    def position(self) -> Position:
        """The newest committed position.

        Raises:
            SourceError: the file cannot be read, or is no longer the same database.
        """
        with self.pin() as pin:
            return pin.position

    def pin(self, *, logs: bool = True) -> Pin:
        """A pin of the newest committed state, to be closed by the caller; without `logs`, of the newest
        checkpoint alone.

        Raises:
            SourceError: the file cannot be read, or is no longer the same database.
        """
        never = threading.Event()
        problem: SourceError | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._clock.wait(never, _PAUSE_SECONDS if problem else 0.0)
            try:
                with self._lock:
                    pin = self._try_pin()
            except (CorruptHeader, TruncatedFile) as error:
                problem = error  # as if it were being written just now
                continue
            if pin is not None:
                if not logs:
                    pin.logs.clear()
                return pin
            problem = None
        raise problem or SourceError(
            "read",
            self.path,
            f"its headers or its log changed during each of {_ATTEMPTS} looks",
            "Have the writer checkpoint less often: raise its checkpoint_threshold",
            meaning=Meaning.RETRY,
        )

    def _try_pin(self) -> Pin | None:
        """A pin, or None when something moved while it was taken."""
        opened: list[int] = []
        try:
            return self._pinned(opened)
        except _Moved:
            self._walks.clear()
            _close(opened)
            return None
        except BaseException:
            _close(opened)
            raise

    def _pinned(self, opened: list[int]) -> Pin:
        file = _open(self._file_path, opened)
        if file is None:
            raise SourceError(
                "open",
                self.path,
                "there is no such file",
                "Start the writer, or correct [database] path",
                meaning=Meaning.RETRY,
            )
        read_at = reader_at(file)
        raw = read_at(0, HEADERS_SIZE)
        headers = self._parse(raw)
        identity = identify(headers, file)
        names = names_of(self._file_path)
        if len(names) > 1 or names != self.names:
            self.names = names
            self._lie_beside(place_of_logs(names, headers))
        log = _open(self.log_path, opened)
        checkpoint_log = _open(self._checkpoint_log_path, opened)
        fresh = raw != self._raw
        log_end = self._look(LOG, log, fresh)
        checkpoint_end = self._look(CHECKPOINT_LOG, checkpoint_log, fresh)
        still = (
            read_at(0, HEADERS_SIZE) == raw
            and _same(log, self.log_path)
            and _same(checkpoint_log, self._checkpoint_log_path)
            and (len(names) == 1 or _same(file, self._file_path))
        )
        if not still:
            raise _Moved
        follows = log_end.header.iteration if log_end else None
        iteration = self._history.iteration(headers, file, (raw, follows))
        self._raw, self._headers = raw, headers
        logs, offset = self._logs(headers, (log, log_end), (checkpoint_log, checkpoint_end))
        position = Position(iteration, offset)
        self._history.note(identity, position)
        return Pin(self.path, raw, headers, position, file, logs, tuple(opened))

    def _lie_beside(self, name: str) -> None:
        """The logs lie beside this name of the file."""
        if name != self._place:
            self._place = name
            self.log_path, self._checkpoint_log_path = name + LOG, name + CHECKPOINT_LOG

    def _parse(self, raw: bytes) -> Headers:
        if self._headers is not None and raw == self._raw:
            return self._headers
        return parse_headers(raw, self.path)

    def _look(self, suffix: str, file: int | None, fresh: bool) -> LogEnd | None:
        """Where the log ends; `fresh` starts over, for after a checkpoint the same file is another log."""
        if file is None:
            self._walks.pop(suffix, None)
            return None
        status = os.fstat(file)
        file_id, read_at = (status.st_dev, status.st_ino), reader_at(file)
        walk = self._walks.get(suffix)
        if fresh or walk is None or not walk.belongs(file_id, status.st_size, read_at):
            walk = self._walks[suffix] = LogWalk(file_id, read_at(0, 512))
        end = walk.look(status.st_size, read_at)
        if end is not None and not walk.belongs(file_id, os.fstat(file).st_size, read_at):
            raise _Moved  # emptied while it was walked
        return end

    def _logs(
        self,
        headers: Headers,
        log: tuple[int | None, LogEnd | None],
        checkpoint_log: tuple[int | None, LogEnd | None],
    ) -> tuple[dict[str, PinnedLog], int]:
        """What a replay is to find under each name, and the committed bytes of that."""
        (file, end), (checkpoint_file, checkpoint_end) = log, checkpoint_log
        if file is None or end is None:
            return {}, 0
        following = None
        if checkpoint_file is not None and checkpoint_end is not None:
            following = PinnedLog(checkpoint_file, checkpoint_end.end)
        if _spent(headers, end):
            self._walks.pop(LOG, None)  # DuckDB 1.x will empty this very file
            if following is None or checkpoint_end is None:
                return {}, 0
            return {LOG: following}, checkpoint_end.committed
        logs = {LOG: PinnedLog(file, end.end)} if end.end else {}
        if following is None or checkpoint_end is None or (end.marker is None and not headers.encrypted):
            return logs, end.committed
        logs[CHECKPOINT_LOG] = following
        # A writer that recovers from a crash appends the one's frames to the other, without its header.
        frames = max(0, checkpoint_end.committed - checkpoint_end.header.size)
        return logs, end.committed + frames


def _spent(headers: Headers, log: LogEnd) -> bool:
    """Whether the checkpoint in the file already holds everything in the log."""
    if headers.active is None:
        return False
    if log.header.iteration is not None:
        return log.header.iteration < headers.active.iteration
    return log.marker is not None and log.marker == headers.active.meta_block


def _open(path: str, opened: list[int]) -> int | None:
    """A descriptor for reading, noted in `opened`; None if there is no such file."""
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceError(
            "open",
            path,
            error.strerror or str(error),
            "Let this user read the file; on Windows, wait until its writer closes it",
            meaning=Meaning.RETRY,
        ) from error
    opened.append(file)
    return file


def _same(file: int | None, path: str) -> bool:
    """Whether `path` still names the open file, or still nothing."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return file is None
    return file is not None and os.path.samestat(status, os.fstat(file))


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)
