"""How far is the log committed, and which checkpoint does it follow?

The format is DuckDB's write-ahead log (write_ahead_log.cpp, wal_replay.cpp). An unframed header:
BinarySerializer fields 100 = 98, 101 = version, in files of the 1.3 format and later also 102 = the
database's identifier and 103 = the checkpoint iteration it follows, then 0xFFFF. Version 2 continues with
frames `[u64 size][u64 checksum][payload]`, whose payload begins `64 00 TYPE`. A commit ends in a
WAL_FLUSH frame, and a checkpoint writes a CHECKPOINT frame as the last one. Version 3 is encrypted,
version 1 has no frames: of both only the size is known.

The walk reads sizes and types and no more: checksums are DuckDB's to verify when it replays. A frame that is
not whole yet is a commit being written; the next look starts again at the last commit.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

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


class LogWalk:
    """Walks one log as it grows; each look costs what is new since the last one.

    It must be given the same log each time, which `belongs` tells: a log is another one when its file is,
    when it shrank, or when its first bytes changed. DuckDB 1.x empties its log in place after a checkpoint
    and may write the same first bytes again: whoever sees the checkpoint switch starts a new walk.
    """

    def __init__(self, file_id: tuple[int, int], head: bytes) -> None:
        self._file_id = file_id
        self._head = head
        self._end: LogEnd | None = None

    def belongs(self, file_id: tuple[int, int], size: int, read_at: ReadAt) -> bool:
        """Whether the log behind `read_at` is the one walked so far."""
        if file_id != self._file_id or self._end is None:
            return False
        return size >= self._end.end and read_at(0, len(self._head)) == self._head

    def look(self, size: int, read_at: ReadAt) -> LogEnd | None:
        """The committed end within the first `size` bytes; None while there is no whole header."""
        header = self._end.header if self._end else parse_log_header(read_at(0, min(size, _HEAD_BYTES)))
        if header is None:
            return None
        if header.version != FRAMED:
            self._end = LogEnd(header, size, None, size)
            return self._end
        start = self._end.committed if self._end and self._end.committed else header.size
        committed, marker, end = _walk(start, size, read_at)
        if committed is None:
            committed = self._end.committed if self._end else 0
        self._end = LogEnd(header, committed, marker, max(end, committed))
        return self._end


def reader_at(file: int) -> ReadAt:
    """Positioned reads of the file descriptor `file`, which is used by one thread here."""
    if hasattr(os, "pread"):
        return lambda offset, size: os.pread(file, size, offset)

    def read(offset: int, size: int) -> bytes:
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, size)

    return read


def _walk(start: int, size: int, read_at: ReadAt) -> tuple[int | None, int | None, int]:
    """Walk the frames from the one at `start`.

    Answers where the last commit ends (None: no commit), a checkpoint's marker, and where that ends.
    """
    unpack = struct.Struct("<Q").unpack_from
    committed: int | None = None
    at, base, chunk = start, start, b""
    while True:
        if at + FRAME_HEADER + 3 > base + len(chunk):
            base, chunk = at, read_at(at, min(_CHUNK_BYTES, max(0, size - at)))
            if len(chunk) < FRAME_HEADER + 3:
                return committed, None, committed or 0
        length: int = unpack(chunk, at - base)[0]
        following = at + FRAME_HEADER + length
        if length < 5 or following > size:
            return committed, None, committed or 0
        kind = chunk[at - base + FRAME_HEADER + 2]
        if kind == FLUSH:
            committed = following
        elif kind == CHECKPOINT:
            frame = read_at(at, FRAME_HEADER + min(length, _MARKER_BYTES))
            return committed, _meta_block(frame), following
        at = following


def _meta_block(frame: bytes) -> int | None:
    """The pointer in a CHECKPOINT frame: field 101 = an object whose field 100 is the block, absent if 0."""
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
