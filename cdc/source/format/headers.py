"""What the first 12 KiB of a DuckDB file say: which database it is, and which checkpoint is its newest.

The format is DuckDB's `MainHeader` and `DatabaseHeader` (storage_info.hpp, single_file_block_manager.cpp):
three blocks of 4096 bytes, each `[u64 checksum][payload]`. The first is written once; the other two are
written in turn, and the one with the higher iteration is active. An encrypted file has a readable main header
and encrypted database headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cdc.errors import Meaning, SourceError

HEADER_SIZE = 4096
HEADERS_SIZE = 3 * HEADER_SIZE
"""Bytes of the three headers; blocks follow."""

MAGIC = b"DUCK"
OLDEST_VERSION = 64
"""The storage version of DuckDB 0.9 to 1.1, the oldest that DuckDB 2.0 reads."""
NEWEST_VERSION = 69
"""DuckDB 2.0."""
DEPRECATED_VERSION = 999
"""Written by DuckDB 2.0 in the main header: the version stands in the database header instead."""

_SEED = np.uint64(5381)
_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_ENCRYPTED = 1
_FLAGS = 20
_LIBRARY = 52
_METADATA = 116
_IDENTIFIER = 124
_NO_IDENTIFIER = bytes(16)


class NotDuckDb(SourceError):
    """The file is not a DuckDB database."""


class TruncatedFile(SourceError):
    """The file is shorter than its headers; a database just being created looks like this too."""

    meaning = Meaning.RETRY


class CorruptHeader(SourceError):
    """A header's checksum does not match; a header just being written looks like this too."""

    meaning = Meaning.RETRY


class UnknownVersion(SourceError):
    """The file was written in a storage format this version does not know."""


@dataclass(frozen=True, slots=True)
class DatabaseHeader:
    """One of the two headers that checkpoints write in turn."""

    iteration: int
    meta_block: int
    """The root of the catalog; the log's checkpoint marker names it. 2**64 - 1 when there is none."""
    free_list: int
    block_count: int
    block_size: int
    version: int
    """The storage version (64 to 69), or in files of 1.x a serialization version (0 to 7)."""


@dataclass(frozen=True, slots=True)
class Headers:
    """The three headers of one moment."""

    version: int
    """The main header's storage version, or `DEPRECATED_VERSION`."""
    library: str
    """The DuckDB version that created the file."""
    identifier: str | None
    """32 hex digits that name the database; None in files that 1.x wrote in its default format."""
    encrypted: bool
    cipher: str | None
    """GCM or CTR in an encrypted file."""
    active: DatabaseHeader | None
    """None in an encrypted file."""


def checksum(data: bytes | memoryview) -> int:
    """DuckDB's checksum of whole 64-bit words (checksum.cpp): `data` is a multiple of 8 bytes."""
    words = np.frombuffer(data, dtype="<u8")
    return int(_SEED ^ np.bitwise_xor.reduce(words * _FACTOR))


def blocks_are_whole(blocks: bytes, block_size: int) -> bool:
    """Whether each of `blocks`, whole blocks of an unencrypted file, matches its checksum."""
    if block_size % 8 or block_size <= 8:
        return True  # no size that DuckDB writes: it will say so
    words = np.frombuffer(blocks, dtype="<u8").reshape(-1, block_size // 8)
    sums = np.bitwise_xor.reduce(words[:, 1:] * _FACTOR, axis=1) ^ _SEED
    return bool((sums == words[:, 0]).all())


def parse_headers(raw: bytes, path: Path) -> Headers:
    """The headers in `raw`, the first `HEADERS_SIZE` bytes of the file at `path` (named in errors).

    Raises:
        NotDuckDb, TruncatedFile, CorruptHeader, UnknownVersion: as their names say.
    """
    if len(raw) >= 12 and raw[8:12] != MAGIC:
        raise NotDuckDb("read", path, "it is not a DuckDB database", "Correct [database] path")
    if len(raw) < HEADERS_SIZE:
        raise TruncatedFile(
            "read",
            path,
            f"it has {len(raw)} bytes and a database has at least {HEADERS_SIZE}",
            "If the writer is just creating it, wait; otherwise restore the file",
        )
    _verify(raw, 0, path)
    version = _u64(raw, 12)
    if version != DEPRECATED_VERSION and not OLDEST_VERSION <= version <= NEWEST_VERSION:
        raise UnknownVersion(
            "read",
            path,
            f"its storage version is {version}, and {OLDEST_VERSION} to {NEWEST_VERSION} are known",
            "Install the version of this program that matches the writer's DuckDB",
        )
    encrypted = bool(_u64(raw, _FLAGS) & _ENCRYPTED)
    identifier = raw[_IDENTIFIER : _IDENTIFIER + 16]
    return Headers(
        version=version,
        library=raw[_LIBRARY : _LIBRARY + 32].rstrip(b"\0").decode("ascii", "replace"),
        identifier=None if identifier == _NO_IDENTIFIER else identifier.hex(),
        encrypted=encrypted,
        cipher=_cipher(raw[_METADATA + 2]) if encrypted else None,
        active=None if encrypted else _active(raw, path),
    )


def _active(raw: bytes, path: Path) -> DatabaseHeader:
    first, second = (_database_header(raw, block * HEADER_SIZE, path) for block in (1, 2))
    return first if first.iteration > second.iteration else second  # as DuckDB chooses


def _database_header(raw: bytes, start: int, path: Path) -> DatabaseHeader:
    _verify(raw, start, path)
    iteration, meta_block, free_list, count, block_size, _, version = (
        _u64(raw, start + 8 * field) for field in range(1, 8)
    )
    return DatabaseHeader(iteration, meta_block, free_list, count, block_size or 262144, version)


def _verify(raw: bytes, start: int, path: Path) -> None:
    if checksum(memoryview(raw)[start + 8 : start + HEADER_SIZE]) != _u64(raw, start):
        raise CorruptHeader(
            "read",
            path,
            f"the header at byte {start} does not match its checksum",
            "Restore the file from a backup if this persists",
        )


def _cipher(number: int) -> str:
    return {2: "CTR", 3: "CBC"}.get(number, "GCM")


def _u64(raw: bytes, offset: int) -> int:
    return int.from_bytes(raw[offset : offset + 8], "little")
