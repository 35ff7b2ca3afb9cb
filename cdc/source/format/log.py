"""How far is the log committed, and which checkpoint does it follow?

The format is DuckDB's write-ahead log (write_ahead_log.cpp, wal_replay.cpp). An unframed header:
BinarySerializer fields 100 = 98, 101 = version, in files of the 1.3 format and later also 102 = the
database's identifier and 103 = the checkpoint iteration it follows, then 0xFFFF. Version 2 continues with
frames `[u64 size][u64 checksum][payload]`, whose payload begins `64 00 TYPE`. A commit ends in a
WAL_FLUSH frame, and a checkpoint writes a CHECKPOINT frame as the last one. Version 3 is encrypted,
version 1 has no frames: of both only the size is known.

The walk reads sizes, checksums and types and no more: that a checksum is its payload's is DuckDB's to verify
when it replays. A frame that is not whole yet is a commit being written; the next look starts again at the
last commit.

A place in the log is known by what comes before it: by the proof, a hash over the log's header and the size
and checksum of every frame up to there.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

FRAMED = 2
"""The log version whose frames can be walked."""
FRAME_HEADER = 16

FLUSH = 100
CHECKPOINT = 99
_VERSION = 98

_HEAD_BYTES = 512
_CHUNK_BYTES = 1 << 20
_MARKER_BYTES = 64
"""More than a checkpoint's marker has."""
_TAIL_BYTES = 2048
"""Of the log before its committed end that each look compares with what stood there: some twenty commits of a
row."""
_STATE_BYTES = 1 << 20
"""How far a place may lie behind one up to which the proof is remembered."""
_PROOF_BYTES = 16

ReadAt = Callable[[int, int], bytes]
"""`(offset, size)`: the bytes there, fewer at the end of the log."""


@dataclass(frozen=True, slots=True)
class LogHeader:
    """What stands before the first frame."""

    version: int
    identifier: str | None
    """The database's identifier in hex, as in the main header; None before the 1.3 format."""
    iteration: int | None
    """The checkpoint that this log follows; None before the 1.3 format."""
    size: int
    """Bytes of the header."""


@dataclass(frozen=True, slots=True)
class LogEnd:
    """How far a log is committed."""

    header: LogHeader
    committed: int
    """Bytes to the end of the last commit's marker; 0 without a commit. Of an unframed log, its size."""
    marker: int | None = None
    """The meta block of the checkpoint that ended this log, when one did."""
    end: int = 0
    """`committed`, and the checkpoint's marker behind it: as much as a replay may see."""


def parse_log_header(raw: bytes) -> LogHeader | None:
    """The header at the start of `raw`; None while it is not whole, or is none."""
    fields = _Fields(raw)
    try:
        if fields.u16() != 100 or fields.varint() != _VERSION or fields.u16() != 101:
            return None
        version = fields.varint()
        identifier: str | None = None
        iteration: int | None = None
        while (field := fields.u16()) != 0xFFFF:
            if field == 102:
                identifier = bytes(fields.varint() for _ in range(fields.varint())).hex()
            elif field == 103:
                iteration = fields.varint()
            else:
                return None
    except (IndexError, ValueError):
        return None
    return LogHeader(version, identifier, iteration, fields.at)


class Rewritten(Exception):
    """What was walked is no longer there."""


class LogWalk:
    """Walks one log as it grows; each look costs what is new since the last one.

    It must be given the same log each time, which `belongs` tells: a log is another one when its file is,
    when it shrank, or when its first bytes changed; `look` finds that its last ones did. DuckDB 1.x empties
    its log in place after a checkpoint and may write the same first bytes again: whoever sees the checkpoint
    switch starts a new walk.
    """

    def __init__(self, file_id: tuple[int, int], head: bytes) -> None:
        self._file_id = file_id
        self._head = head
        self._end: LogEnd | None = None
        self._tail = b""
        """The bytes before the committed end."""
        self._states: list[tuple[int, Any]] = []
        """Places after a commit, ascending, each with the hash of all before it: one for a megabyte."""
        self._hash = blake2b(digest_size=_PROOF_BYTES)

    def belongs(self, file_id: tuple[int, int], size: int, read_at: ReadAt) -> bool:
        """Whether the log behind `read_at` is the one walked so far."""
        if file_id != self._file_id or self._end is None:
            return False
        return size >= self._end.end and read_at(0, len(self._head)) == self._head

    def look(self, size: int, read_at: ReadAt) -> LogEnd | None:
        """The committed end within the first `size` bytes; None while there is no whole header.

        Raises:
            Rewritten: what was walked before is no longer there.
        """
        header = self._end.header if self._end else parse_log_header(read_at(0, min(size, _HEAD_BYTES)))
        if header is None:
            return None
        if header.version != FRAMED:
            return self._look_unframed(header, size, read_at)
        if self._end is None:
            self._hash.update(read_at(0, header.size))
            self._states.append((header.size, self._hash.copy()))
        start = self._end.committed if self._end and self._end.committed else header.size
        found = _walk(start, size, read_at, self._tail, self._hash)
        committed = start if self._end and self._end.committed else 0
        if found.committed is not None:
            committed, self._tail = found.committed, found.tail
            if committed - self._states[-1][0] >= _STATE_BYTES:
                self._states.append((committed, self._hash.copy()))
        self._end = LogEnd(header, committed, found.marker, max(found.end, committed))
        return self._end

    def proof(self) -> bytes:
        """That of the committed end; empty without a commit."""
        if self._end is None or not self._end.committed:
            return b""
        return self._tail_proof(self._tail) if self._end.header.version != FRAMED else self._hash.digest()

    def proof_at(self, offset: int, read_at: ReadAt) -> bytes | None:
        """The proof of the place `offset`; None if no commit ends there."""
        end = self._end
        if end is None or offset > end.committed:
            return None
        if offset == end.committed or not offset:
            return self.proof() if offset else b""
        if end.header.version != FRAMED:
            return self._tail_proof(read_at(max(0, offset - _TAIL_BYTES), min(offset, _TAIL_BYTES)))
        at, state = next(each for each in reversed(self._states) if each[0] <= offset)
        if at == offset and at > end.header.size:
            return bytes(state.digest())
        hashed = state.copy()
        return hashed.digest() if _walk(at, offset, read_at, b"", hashed).committed == offset else None

    def _look_unframed(self, header: LogHeader, size: int, read_at: ReadAt) -> LogEnd:
        if self._end is not None:
            before = self._end.committed
            if read_at(before - len(self._tail), len(self._tail)) != self._tail:
                raise Rewritten
        if self._end is None or size != self._end.committed:
            self._tail = read_at(max(0, size - _TAIL_BYTES), min(size, _TAIL_BYTES))
            self._end = LogEnd(header, size, None, size)
        return self._end

    def _tail_proof(self, tail: bytes) -> bytes:
        """Of a log whose frames cannot be walked, what stands before the place is its proof."""
        assert self._end is not None
        return blake2b(self._head[: self._end.header.size] + tail, digest_size=_PROOF_BYTES).digest()


def reader_at(file: int) -> ReadAt:
    """Positioned reads of the file descriptor `file`, which is used by one thread here."""
    if hasattr(os, "pread"):
        return lambda offset, size: os.pread(file, size, offset)

    def read(offset: int, size: int) -> bytes:
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, size)

    return read


@dataclass(frozen=True, slots=True)
class _Walked:
    committed: int | None
    """Where the last commit ends; None: there was no commit."""
    marker: int | None
    """A checkpoint's."""
    end: int
    """Where the marker ends, or else the last commit; 0 without either."""
    tail: bytes
    """The bytes before the last commit's end."""


def _walk(start: int, size: int, read_at: ReadAt, before: bytes, hashed: Any) -> _Walked:
    """Walk the frames from the one at `start`, and add those of whole commits to `hashed`.

    Raises:
        Rewritten: the bytes before `start` are not those of `before`.
    """
    unpack = struct.Struct("<Q").unpack_from
    committed: int | None = None
    marker: int | None = None
    end = 0
    seen: list[bytes] = []
    at, base = start, start - len(before)
    chunk = read_at(base, min(_CHUNK_BYTES, max(0, size - base)))
    if chunk[: len(before)] != before:
        raise Rewritten
    while at + FRAME_HEADER + 3 <= size:
        if at + FRAME_HEADER + 3 > base + len(chunk):
            base, chunk = at, read_at(at, min(_CHUNK_BYTES, size - at))
            if len(chunk) < FRAME_HEADER + 3:
                break
        place = at - base
        length: int = unpack(chunk, place)[0]
        following = at + FRAME_HEADER + length
        if length < 5 or following > size:
            break
        kind = chunk[place + FRAME_HEADER + 2]
        if kind == CHECKPOINT:
            marker, end = meta_block_of(read_at(at, FRAME_HEADER + min(length, _MARKER_BYTES))), following
            break
        seen.append(chunk[place : place + FRAME_HEADER])
        if kind == FLUSH:
            hashed.update(b"".join(seen))
            seen.clear()
            committed = end = following
        at = following
    tail = before
    if committed is not None:
        first = max(start - len(before), committed - _TAIL_BYTES)
        whole = base <= first and committed <= base + len(chunk)
        tail = chunk[first - base : committed - base] if whole else read_at(first, committed - first)
    return _Walked(committed, marker, end, tail)


def meta_block_of(frame: bytes) -> int | None:
    """The root of the catalog that a CHECKPOINT frame names: field 100 of its field 101, absent if 0."""
    fields = _Fields(frame[FRAME_HEADER:])
    try:
        if (fields.u16(), fields.varint(), fields.u16()) != (100, CHECKPOINT, 101):
            return None
        return fields.varint() if fields.u16() == 100 else 0
    except (IndexError, ValueError):
        return None


class _Fields:
    """The pieces of DuckDB's BinarySerializer, in order."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.at = 0

    def u16(self) -> int:
        if self.at + 2 > len(self._raw):
            raise IndexError(self.at)
        value = int.from_bytes(self._raw[self.at : self.at + 2], "little")
        self.at += 2
        return value

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._raw[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("an integer without an end")
