"""Does what is at the path go on from what was there at the last look, and what proves a place in it?

The same file, its checkpoints in order, and a log that only grew: that much is asked of the next look. A log
that is another one all the same, as after a recovery, must hold what was read of it. What proves a place is
of the checkpoint and of the log: the raw headers, the checksum of the block that the active one leads to and
the file's number; and of every frame before the place its size and checksum.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from hashlib import blake2b

from cdc.source.file.logs import Logs
from cdc.source.format.headers import HEADERS_SIZE, Headers
from cdc.source.format.log import ReadAt

_NO_BLOCK = 2**64 - 1
_BLOCK_BITS = 56
"""Of a pointer to a piece of metadata; the rest numbers the piece within its block."""
_MOST_BYTES = 1 << 60
"""Of a file; a header that was forged may lead anywhere."""
_MOST_HEADERS = 1024
"""That are remembered of an encrypted file."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found."""

    file: int
    """The file's number in its file system."""
    raw: bytes
    """The three headers."""
    iteration: int | None
    """None in an encrypted file."""
    checkpoint: bytes
    """What proves the checkpoint."""
    logs: Logs
    log_file: int | None
    """The number of the log that a replay begins with."""
    spent_log: int | None = None
    """A log that an encrypted file's checkpoint may hold already, and which may go."""

    @property
    def log_proof(self) -> bytes:
        return b"" if self.logs.walk is None else self.logs.walk.proof()

    @property
    def log_iteration(self) -> int | None:
        """The checkpoint that the log follows, where it says so."""
        return None if self.logs.end is None else self.logs.end.header.iteration

    @property
    def proof(self) -> int | None:
        """What proves the place where this look ended; None while a checkpoint runs."""
        running = self.logs.offset != self.logs.committed
        return None if running else place_proof(self.checkpoint, self.log_proof)


def place_proof(checkpoint: bytes, log: bytes) -> int:
    return int.from_bytes(blake2b(checkpoint + log, digest_size=8).digest(), "big")


def checkpoint_proof(raw: bytes, headers: Headers, file: int, read_at: ReadAt) -> bytes:
    """What proves the checkpoint of these `headers` in the file of this number."""
    block = b""
    active = headers.active
    if active is not None and active.meta_block != _NO_BLOCK:
        number = active.meta_block & ((1 << _BLOCK_BITS) - 1)
        place = HEADERS_SIZE + number * active.block_size
        block = read_at(place, 8) if place < _MOST_BYTES else b""
    return blake2b(raw + block + file.to_bytes(8, "big"), digest_size=16).digest()


def identify(headers: Headers, file: int) -> str:
    """The database's identifier; in files of 1.x, which have none, the file's own number in its file system.

    A copy of such a file is therefore another source.
    """
    return headers.identifier or f"file-{os.fstat(file).st_ino:x}"


class Continuity:
    """Compares each look with the one before. For one thread at a time."""

    def __init__(self) -> None:
        self.before: Seen | None = None
        self._headers: dict[bytes, None] = {}
        """Digests of the headers that an encrypted file had."""

    def check(self, now: Seen) -> tuple[bool, str | None]:
        """Whether another log began, and why the history broke, if it did; `accept` then makes `now` the look
        before."""
        before = self.before
        if before is None:
            return True, None
        if now.raw != before.raw:
            return True, _other_file(before, now) or self._checkpoint_broken(before, now)
        if now.file != before.file:
            return False, _other_file(before, now)
        if _was_spent(before, now):
            return True, None
        return False, _log_broken(before, now)

    def accept(self, now: Seen) -> None:
        before, self.before = self.before, now
        if now.iteration is not None:
            return
        if before is not None and now.raw != before.raw and now.log_file == before.log_file:
            self.before = replace(now, spent_log=now.log_file)
        elif before is not None and now.raw == before.raw and not _was_spent(before, now):
            self.before = replace(now, spent_log=before.spent_log)
        self._headers[_digest(now.raw)] = None
        if len(self._headers) > _MOST_HEADERS:
            del self._headers[next(iter(self._headers))]

    def _checkpoint_broken(self, before: Seen, now: Seen) -> str | None:
        if now.iteration is None or before.iteration is None:
            older = _digest(now.raw) in self._headers or (
                now.log_iteration is not None
                and before.log_iteration is not None
                and now.log_iteration < before.log_iteration
            )
            return "an older copy took its place" if older else None
        if now.iteration > before.iteration:
            return None
        if now.iteration == before.iteration:
            return f"another copy took its place, with another checkpoint {now.iteration}"
        return went_back(before.iteration, now.iteration)


def went_back(before: int, now: int) -> str:
    return f"it went back from checkpoint {before} to {now}: an older copy took its place"


def log_cut(read: int, committed: int) -> str:
    if committed < read:
        return f"its log was cut back: {read} bytes of it had been read, and it has {committed}"
    return f"its log is another one: the {read} bytes that had been read are not those it has there"


def _other_file(before: Seen, now: Seen) -> str | None:
    return "another file took its place" if now.file != before.file else None


def _was_spent(before: Seen, now: Seen) -> bool:
    """Whether the log before was of an earlier checkpoint, as only an encrypted file leaves to be guessed."""
    if before.spent_log is None or before.spent_log != before.log_file:
        return False
    return now.log_file != before.log_file or now.logs.committed < before.logs.committed


def _log_broken(before: Seen, now: Seen) -> str | None:
    """Why the log does not hold what was read of it, of a file with the same checkpoint."""
    read, (walk, read_at) = before.logs.committed, (now.logs.walk, now.logs.read_at)
    kept = not read
    if walk is not None and read_at is not None:
        same = walk is before.logs.walk  # which compares what it walks itself
        kept = kept or same or walk.proof_at(read, read_at) == before.log_proof
    return (
        None
        if kept and now.logs.offset >= before.logs.offset
        else log_cut(before.logs.offset, now.logs.offset)
    )


def _digest(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=16).digest()
