"""Is a DuckDB file whole: its headers, every block that its active header reaches, every frame of its log?

What is compared are DuckDB's own checksums (`MainHeader` to `CheckChecksum` in single_file_block_manager.cpp,
`GetEntryDeserializer` in wal_replay.cpp). A block is reached unless the free list has it. The file may be in
use: what does not match is looked at again once the headers are known to be those it was read under.

Not checked: what the blocks mean; blocks of an encrypted file, which hold nothing readable without its key;
and a log written before DuckDB framed it (version 1). A frame cut off at the end of the log is no damage: it
is a commit that never was, and DuckDB drops it. DuckDB drops as quietly what follows a frame whose size was
damaged; here that is found by the commits behind it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np

from cdc.errors import SnapshotSuperseded, SourceError
from cdc.source.file.places import names_of, place_of_logs
from cdc.source.file.regular import open_regular
from cdc.source.format.frames import BODY, COMMIT, COMMIT_FRAME, EMPTY, FRAME_HEADER, checksum, kind
from cdc.source.format.headers import (
    HEADERS_SIZE,
    CorruptHeader,
    DatabaseHeader,
    NotDuckDb,
    TruncatedFile,
    parse_headers,
)
from cdc.source.format.log import FRAMED, ReadAt, parse_log_header, reader_at

NO_POINTER = (1 << 64) - 1
METADATA_BLOCKS = 64
"""Metadata blocks in a block (metadata_manager.hpp)."""
LOG_SUFFIXES = (".wal", ".wal.checkpoint", ".wal.recovery")
"""What a writer killed at any moment may leave beside its file (storage_manager.cpp)."""
ATTEMPTS = 5
"""A live file may be checkpointed under the check; so often it is begun again."""
PROBLEMS_NAMED = 20
"""A file that is damaged all over is described well enough by this many places."""
_PIECE_BYTES = 1 << 20
"""Of a log, at once; whole words of a checksum."""
_WORD_FACTOR = np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True, slots=True)
class Integrity:
    """What was checked of one file and its logs, and what is wrong, each as a clause for a person."""

    path: Path
    blocks: int = 0
    free_blocks: int = 0
    frames: int = 0
    problems: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        return not self.problems


def check_file(path: Path) -> Integrity:
    """Check the database at `path` and the logs beside it. A file that does not exist is sound.

    Raises:
        SourceError: it cannot be read, or changes too fast to be checked.
    """
    for _ in range(ATTEMPTS):
        try:
            return _check(path)
        except SnapshotSuperseded:
            continue
    raise SourceError(
        "check", path, f"it was checkpointed {ATTEMPTS} times during the check", "Check a backup instead"
    )


def _check(path: Path) -> Integrity:
    try:
        with open(open_regular(path), "rb") as file:
            return _check_open(path, file)
    except FileNotFoundError:
        return Integrity(path, unchecked=("there is no such file",))
    except OSError as error:
        raise SourceError(
            "check", path, error.strerror or str(error), "Make it readable for this user"
        ) from error


def _check_open(path: Path, file: BufferedReader) -> Integrity:
    raw = file.read(HEADERS_SIZE)
    try:
        headers = parse_headers(raw, path)
    except (CorruptHeader, TruncatedFile, NotDuckDb) as error:
        _same_headers(path, file, raw)
        return Integrity(path, problems=(error.problem,))
    problems: list[str] = []
    unchecked: list[str] = []
    blocks = free = 0
    if headers.active is None:
        unchecked.append("its blocks are encrypted")
    else:
        try:
            reader = _Blocks(file, headers.active)
            reached = reader.reached()
            blocks, free = len(reached), headers.active.block_count - len(reached)
            problems += _first(reader.damage(reached))
        except _Damaged as damaged:
            problems.append(str(damaged))
    frames = 0
    place = place_of_logs(names_of(path), headers)
    for suffix in LOG_SUFFIXES:
        log = Path(place + suffix)
        if log.exists():
            checked = _check_log(log, headers.identifier)
            frames += checked.frames
            problems += checked.problems
            unchecked += checked.unchecked
    if problems:
        _same_headers(path, file, raw)
    return Integrity(path, blocks, free, frames, tuple(problems), tuple(unchecked))


def _same_headers(path: Path, file: BufferedReader, raw: bytes) -> None:
    """Nothing that was seen under `raw` is damage if the headers are others by now."""
    file.seek(0)
    if file.read(HEADERS_SIZE) != raw:
        raise SnapshotSuperseded("check", path, "it was checkpointed meanwhile", "Check it again")


class _Damaged(Exception):
    """The list of blocks to check cannot be had; the message says why."""


class _Blocks:
    """The blocks of one file under one header. Their ids count from 0 behind the headers."""

    def __init__(self, file: BufferedReader, header: DatabaseHeader) -> None:
        self._file = file
        self._header = header
        size = header.block_size
        if not 16384 <= size <= 262144 or size & (size - 1):
            raise _Damaged(f"its block size is {size}")
        self._room = max(0, os.fstat(file.fileno()).st_size - HEADERS_SIZE) // size
        self._buffer = bytearray(size)
        self._words = np.frombuffer(self._buffer, dtype="<u8")
        self._products = np.empty(len(self._words) - 1, dtype="<u8")

    def reached(self) -> list[int]:
        """The ids of the blocks that are not free, ascending."""
        free = self._free()
        counted = min(self._header.block_count, self._room + 1)  # one that is cut off says enough
        return [block for block in range(counted) if block not in free]

    def damage(self, blocks: list[int]) -> Iterator[str]:
        """What is wrong with each of `blocks`."""
        for block in blocks:
            problem = self._load(block)
            if problem is not None:
                yield problem

    def _load(self, block: int) -> str | None:
        """Read a block into the buffer; what is wrong with it, or None."""
        start = HEADERS_SIZE + block * self._header.block_size
        self._file.seek(start)
        if self._file.readinto(self._buffer) < len(self._buffer):
            return f"block {block} at byte {start} is cut off by the end of the file"
        np.multiply(self._words[1:], _WORD_FACTOR, out=self._products)
        if 5381 ^ int(np.bitwise_xor.reduce(self._products)) != int(self._words[0]):
            return f"block {block} at byte {start} does not match its checksum"
        return None

    def _free(self) -> set[int]:
        """The free list: a count and as many block ids, in a chain of metadata blocks.

        Raises:
            _Damaged: the chain is broken.
        """
        if self._header.free_list == NO_POINTER:
            return set()
        stream = self._metadata(self._header.free_list)
        count = next(stream)
        if count > self._header.block_count:
            raise _Damaged(f"its free list claims {count} of {self._header.block_count} blocks")
        return {next(stream) for _ in range(count)}

    def _metadata(self, pointer: int) -> Iterator[int]:
        """The 64-bit words behind a metadata pointer: 56 bits of block id, 8 bits of place in the block."""
        size = (self._header.block_size - 8) // METADATA_BLOCKS // 8
        seen = set()
        while pointer != NO_POINTER:
            block, place = pointer & ((1 << 56) - 1), pointer >> 56
            if (
                pointer in seen
                or place >= METADATA_BLOCKS
                or block >= min(self._header.block_count, self._room)
            ):
                raise _Damaged(f"its free list points to block {block}, place {place}")
            seen.add(pointer)
            problem = self._load(block)
            if problem is not None:
                raise _Damaged(f"{problem}; it holds the free list")
            words = self._words[1 + place * size :][:size].tolist()
            pointer = words[0]
            yield from words[1:]
        raise _Damaged("its free list ends too early")


def _check_log(path: Path, identifier: str | None) -> Integrity:
    """The frames of one log, which its writer may empty meanwhile."""
    try:
        file = open_regular(path)
    except FileNotFoundError:  # checkpointed away
        return Integrity(path)
    with open(file, "rb", buffering=0):
        return _check_frames(path, _Log(reader_at(file), os.fstat(file).st_size), identifier)


class _Log:
    """A log, read by position and in pieces: a mapped one that is emptied ends the process."""

    def __init__(self, read_at: ReadAt, size: int) -> None:
        self._read_at = read_at
        self.size = size

    def read(self, at: int, size: int) -> bytes:
        return self._read_at(at, min(size, max(0, self.size - at)))

    def has(self, wanted: bytes, at: int) -> bool:
        """Whether `wanted` stands anywhere from `at` on."""
        while len(piece := self.read(at, _PIECE_BYTES + len(wanted))) >= len(wanted):
            if wanted in piece:
                return True
            at += _PIECE_BYTES
        return False

    def is_sound(self, at: int, end: int) -> bool:
        """Whether the payload of the frame from `at` to `end` matches its checksum."""
        expected = FRAME_HEADER.unpack(self.read(at, FRAME_HEADER.size))[1]
        total, place = EMPTY, at + FRAME_HEADER.size
        while place < end:
            piece = self.read(place, min(_PIECE_BYTES, end - place))
            if not piece:
                return False
            total ^= EMPTY ^ checksum(piece)
            place += len(piece)
        return bool(total == expected)


def _check_frames(path: Path, log: _Log, identifier: str | None) -> Integrity:
    header = parse_log_header(log.read(0, 512))
    if header is None:
        torn = log.size < 64  # shorter than any header with an identifier: it was being written
        return (
            Integrity(path) if torn else Integrity(path, problems=(f"{path.name} does not begin as a log",))
        )
    if identifier is not None and header.identifier not in (None, identifier):
        return Integrity(path, problems=(f"{path.name} belongs to another database",))
    if header.version != FRAMED:
        return Integrity(path, unchecked=(f"{path.name} is encrypted or older than frames",))
    at, committed, frames = header.size, header.size, 0
    while len(head := log.read(at, BODY)) >= FRAME_HEADER.size:
        end = at + FRAME_HEADER.size + FRAME_HEADER.unpack_from(head)[0]
        if end > log.size and not log.has(COMMIT_FRAME, at):
            break
        if end > log.size or end - at < BODY or not log.is_sound(at, end):
            problem = (
                f"{path.name}: the frame at byte {at} is damaged; commits are whole up to byte {committed}"
            )
            return Integrity(path, frames=frames, problems=(problem,))
        frames += 1
        at = end
        if kind(head) == COMMIT:
            committed = at
    return Integrity(path, frames=frames)


def _first(problems: Iterator[str]) -> list[str]:
    named: list[str] = []
    for problem in problems:
        if len(named) == PROBLEMS_NAMED:
            return [*named, "and more"]
        named.append(problem)
    return named
