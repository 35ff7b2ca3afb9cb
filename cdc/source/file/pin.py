"""Which bytes, of three files that another process is writing, make one consistent view?

The two database headers are a sequence lock: a checkpoint writes only into free blocks, then switches by
writing one header. Bytes that were read while the headers were the pinned ones are bytes of that checkpoint.
One kind of block is an exception: a block of metadata has 64 pieces, and a checkpoint that fills its free
pieces writes all of it again, in place. Its used pieces stay what they were, but a reader may meet the block
half written; its checksum says so, and reading it again helps.

The logs are append-only up to their committed end for as long as the headers stand. So a `Pin` is the
headers, and an open descriptor and a length for each log; every read is checked against the headers after it.

Each pin is compared with the one before it. What is not its continuation is another history, of another era
(see `continuity`, `history`).

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
from cdc.eras import Eras, MemoryEras
from cdc.errors import Meaning, SnapshotSuperseded, SourceError
from cdc.source.file.continuity import (
    Continuity,
    Seen,
    checkpoint_proof,
    identify,
    log_cut,
    place_proof,
    went_back,
)
from cdc.source.file.history import History
from cdc.source.file.logs import LogWalks, Moved, PinnedLog
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
from cdc.source.format.log import reader_at

_ATTEMPTS = 200
"""Looks until all files stand still. One takes less than a millisecond, as does a header's write."""
_PAUSE_SECONDS = 0.002
_TORN_READS = 50
"""Reads of a block until it is whole; one is written in well under a millisecond."""
_UNWATCHED_SECONDS = 5.0
"""After so long without a look, as in a process that was suspended, the whole log is compared."""


@dataclass(frozen=True, slots=True)
class PinnedHistory:
    """How the pinned position lies to those before it."""

    log_era: int
    """Positions from this era on lie in the log at hand;"""
    line_era: int
    """those from this one on, in the same history."""
    broken: str
    """Why the history before that ended."""
    place: Position
    """How far the log at hand is committed, without that of a running checkpoint."""


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
        history: PinnedHistory,
    ) -> None:
        self.path = path
        self.headers = headers
        self.position = position
        self.history = history
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

    def __init__(self, path: Path, clock: Clock, eras: Eras | None = None) -> None:
        """`eras` counts on from run to run; None: from a number that grows with the time of day."""
        self.path = path
        # As text, made once: a busy table's round takes three pins, and paths were a quarter of their cost.
        self._file_path = str(path)
        self.names = names_of(path)
        """The path, and what its links lead over: the logs lie beside one of them."""
        self._place = ""
        self._lie_beside(self.names[-1])
        self._clock = clock
        self._lock = threading.Lock()
        self._headers: Headers | None = None
        self._walks = LogWalks()
        self._looked_at = clock.monotonic()
        self._continuity = Continuity()
        self._checkpoints = 0
        """How many an encrypted file had meanwhile: what stands for its iteration, which nobody can read."""
        self._eras = eras or MemoryEras(clock.wall())
        self._history = History(path, self._eras)
        with self.pin() as pin:
            self.headers = pin.headers

    @property
    def identity(self) -> str:
        """What names the database; see `identify`."""
        return self._history.identity

    @property
    def line_era(self) -> int:
        """The first era of the present history, as of the last look."""
        return self._history.line_era

    @property
    def broken(self) -> str:
        """Why the history before it ended."""
        return self._history.broken

    def proves(self, since: Position) -> bool:
        """Whether `since`, where an earlier run has read the file, is a place in the present log.

        Raises:
            SourceError: the file cannot be read.
        """
        with self.pin() as pin, self._lock:
            seen = self._continuity.before
            if since.era and since.era >= self._history.log_era:  # seen by this process, and there since
                return since.offset <= pin.history.place.offset
            if since.proof is None or seen is None or since.iteration != pin.position.iteration:
                return False
            proof: bytes | None = b""
            if since.offset:
                log, walk = pin.logs.get(LOG), seen.logs.walk
                if log is None or walk is None or os.fstat(log.file).st_ino != seen.log_file:
                    return False
                proof = walk.proof_at(since.offset, reader_at(log.file))
            return proof is not None and place_proof(seen.checkpoint, proof) == since.proof

    def doubt(self, since: Position) -> str | None:
        """Why `since`, which is not proven, is a place of another history; None: checkpoints may have come
        after it, or nothing is known of it.

        Raises:
            SourceError: the file cannot be read.
        """
        now = self.position()
        if since.era == 0 or self.headers.encrypted or since.iteration < now.iteration:
            return None
        if since.iteration > now.iteration:
            return went_back(since.iteration, now.iteration)
        return None if since.proof is None else log_cut(since.offset, now.offset)

    def outrank(self, version: int) -> Position:
        """A position whose version is greater than `version`, which something in the target has.

        Raises:
            SourceError: the file cannot be read.
            StateError: it could not be made sure of that the next run's are greater too.
        """
        position = self.position()
        if position.as_version() <= version:
            self._eras.past(version)
            position = self.position()
        return position

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
        except Moved:
            self._walks.forget()
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
        now = self._clock.monotonic()
        if now - self._looked_at > _UNWATCHED_SECONDS:
            self._walks.forget()
        read_at, number = reader_at(file), os.fstat(file).st_ino
        raw = read_at(0, HEADERS_SIZE)
        before = self._continuity.before
        fresh = before is None or raw != before.raw or number != before.file
        headers = parse_headers(raw, self.path) if fresh or self._headers is None else self._headers
        identity = identify(headers, file)
        names = names_of(self._file_path)
        if len(names) > 1 or names != self.names:
            self.names = names
            self._lie_beside(place_of_logs(names, headers))
        log = _open(self.log_path, opened)
        checkpoint_log = _open(self._checkpoint_log_path, opened)
        ends = [
            (opened_log, self._walks.look(suffix, opened_log, fresh))
            for suffix, opened_log in ((LOG, log), (CHECKPOINT_LOG, checkpoint_log))
        ]
        still = (
            read_at(0, HEADERS_SIZE) == raw
            and _same(log, self.log_path)
            and _same(checkpoint_log, self._checkpoint_log_path)
            and (len(names) == 1 or _same(file, self._file_path))
        )
        if not still:
            raise Moved
        logs = self._walks.logs(headers, *ends)
        known = None if fresh or before is None else before.checkpoint
        seen = Seen(
            file=number,
            raw=raw,
            iteration=None if headers.active is None else headers.active.iteration,
            checkpoint=known or checkpoint_proof(raw, headers, number, read_at),
            logs=logs,
            log_file=None if logs.file is None else os.fstat(logs.file).st_ino,
        )
        self._headers, self._looked_at = headers, now
        position, history = self._placed(identity, seen)
        return Pin(self.path, raw, headers, position, file, logs.shown, tuple(opened), history)

    def _lie_beside(self, name: str) -> None:
        """The logs lie beside this name of the file."""
        if name != self._place:
            self._place = name
            self.log_path, self._checkpoint_log_path = name + LOG, name + CHECKPOINT_LOG

    def _placed(self, identity: str, seen: Seen) -> tuple[Position, PinnedHistory]:
        """Where in the history is what was `seen`?"""
        checkpointed, broken = self._continuity.check(seen)
        history = self._history
        era = history.note(identity, checkpointed=checkpointed, broken=broken)
        self._checkpoints += checkpointed
        self._continuity.accept(seen)
        iteration = self._checkpoints if seen.iteration is None else seen.iteration
        position = Position(era, iteration, seen.logs.offset, seen.proof)
        place = position if seen.proof is not None else Position(era, iteration, seen.logs.committed)
        return position, PinnedHistory(history.log_era, history.line_era, history.broken, place)


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
