"""The frames of DuckDB's log, in and out: what kind each is, whose table it changes, and its checksum.

A frame is `[u64 size][u64 checksum][payload]`, and is handed on whole, so that DuckDB finds the checksum that
the writer gave it; a payload is what BinarySerializer writes of one entry:
fields `[u16 number][value]` with integers as LEB128 and strings as length and bytes, ended by 0xFFFF. Field
100 is the entry's type. (DuckDB: write_ahead_log.cpp, serialize_wal.cpp, checksum.cpp, qualified_name.cpp.)
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from cdc.change import TableId

DROP_TABLE = 2
"""Laid out as USE_TABLE is."""
DROP_SCHEMA = 4
ALTER = 20
USE_TABLE = 25
INSERT = 26
DELETE = 27
UPDATE = 28
ROW_GROUPS = 29
"""Row groups that a bulk load wrote into the file itself."""
SEQUENCE_VALUE = 10
CHECKPOINT = 99
COMMIT = 100
"""DuckDB's WAL_FLUSH."""

FRAME_HEADER = struct.Struct("<QQ")
_KIND = FRAME_HEADER.size + 2
BODY = FRAME_HEADER.size + 3
"""Where what follows the type begins in a frame."""
_END = 0xFFFF
_ROWS = b"e\0d\0"
"""Field 101, the chunk, begins with its field 100, the number of its rows."""
_ALTER_INFO = bytes.fromhex(
    "65 00 01 64 00 00"
)  # field 101, which is there; ParseInfo's field 100: ALTER_INFO
_ALTER_TABLE = 1
_U16 = struct.Struct("<H")
_WORD_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_M = 0xC6A4A7935BD1E995
_SEED = 0xE17A1465
_U64 = (1 << 64) - 1
_SHIFTS = range(0, 70, 7)
"""Of the bytes of an integer: one that went on for a megabyte took minutes."""


class NotUnderstood(Exception):
    """A frame is laid out in a way this module does not know; the message says what was met."""


def read_frames(log: bytes, start: int = 0) -> Iterator[bytes]:
    """The whole frames in `log` from `start`; one cut off at the end is not among them."""
    at, end = start, len(log)
    while at + BODY <= end:
        following = at + FRAME_HEADER.size + FRAME_HEADER.unpack_from(log, at)[0]
        if not at + BODY <= following <= end:
            return
        yield log[at:following]
        at = following


def make_frame(payload: bytes) -> bytes:
    """`payload` framed, as DuckDB would write it."""
    return FRAME_HEADER.pack(len(payload), checksum(payload)) + payload


def is_sound(frame: bytes) -> bool:
    """Whether the payload is of the size and the checksum that stand before it."""
    payload = frame[FRAME_HEADER.size :]
    return (len(payload), checksum(payload)) == FRAME_HEADER.unpack_from(frame)


def kind(frame: bytes) -> int:
    """The entry's type."""
    return frame[_KIND]


@functools.lru_cache(256)  # each commit has one, and most are the same bytes
def used_table(frame: bytes) -> TableId:
    """The table that a USE_TABLE frame names.

    Raises:
        NotUnderstood: it is damaged, has fields this version does not know, or a table in a nested schema.
    """
    _must_be_sound(frame)
    fields = dict(_fields(frame, BODY, _USE_TABLE_LAYOUT, "a USE_TABLE entry"))
    path = fields.get(103, (fields.get(101, ""), fields.get(102, "")))
    if len(path) != 2:
        raise NotUnderstood(f"a table named {'.'.join(path)}")
    return TableId(*path)


def altered_table(frame: bytes) -> tuple[TableId, int]:
    """The table that an ALTER frame changes, and DuckDB's AlterTableType of the change.

    Raises:
        NotUnderstood: it alters something else than a table, or has fields this version does not know.
    """
    _must_be_sound(frame)
    at = BODY + len(_ALTER_INFO)
    if frame[BODY:at] != _ALTER_INFO:
        raise NotUnderstood("an ALTER entry of another layout")
    fields: dict[int, Any] = {}
    for number, value in _fields(frame, at, _ALTER_LAYOUT, "an ALTER entry"):
        fields[number] = value
        if fields.get(200, _ALTER_TABLE) != _ALTER_TABLE:
            raise NotUnderstood(f"an ALTER of type {fields[200]}")
        if number == 300:  # what follows depends on it
            return TableId(fields.get(202, ""), fields.get(203, "")), value
    raise NotUnderstood("an ALTER entry without the kind of its change")


def inserted_rows(frame: bytes) -> int:
    """The rows of an INSERT frame.

    Raises:
        NotUnderstood: it does not begin with their number.
    """
    return _rows(frame)[0]


def inserted_columns(frame: bytes) -> int:
    """The columns of an INSERT frame: behind the number of rows, field 101 is the list of their types.

    Raises:
        NotUnderstood: they are not there.
    """
    _, at = _rows(frame)
    if frame[at : at + 2] != _ROWS[:2]:
        raise NotUnderstood("an INSERT entry without the types of its columns")
    return varint(frame, at + 2)[0]


def _rows(frame: bytes) -> tuple[int, int]:
    """The number of rows of an INSERT frame, and where it ends."""
    begin = BODY + len(_ROWS)
    if frame[BODY:begin] != _ROWS:
        raise NotUnderstood("an INSERT entry without its number of rows")
    return varint(frame, begin)


def may_concern(frame: bytes, table: TableId) -> bool:
    """Whether a change of the catalog can be one of `table`: then it spells its name, or drops its schema."""
    name = table.schema if kind(frame) == DROP_SCHEMA else table.name
    raw = name.encode()
    return len(raw) > 0x7F or bytes([len(raw)]) + raw in frame[BODY:]


def varint(raw: bytes, at: int) -> tuple[int, int]:
    """The LEB128 integer of at most 64 bits at `at`, and where it ends.

    Raises:
        NotUnderstood: there is none.
    """
    if at < len(raw) and (value := raw[at]) < 0x80:  # nearly all are of one byte
        return value, at + 1
    value = 0
    for shift, byte in zip(_SHIFTS, raw[at : at + len(_SHIFTS)], strict=False):
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _U64:
                break
            return value, at
    raise NotUnderstood("an integer without an end")


def checksum(payload: bytes) -> int:
    """DuckDB's checksum: words multiplied and xored, and a hash of the bytes after the last whole word."""
    whole = len(payload) // 8
    words = np.frombuffer(payload, dtype="<u8", count=whole)
    result = 5381 ^ int(np.bitwise_xor.reduce(words * _WORD_FACTOR))
    rest = payload[8 * whole :]
    return result ^ _hash_rest(rest) if rest else result


EMPTY = 5381
"""The checksum of nothing: that of two parts, the first of whole words, is theirs xored with it."""


def _hash_rest(rest: bytes) -> int:
    h = _SEED ^ (len(rest) * _M & _U64)
    h = (h ^ int.from_bytes(rest, "little")) * _M & _U64
    h = (h ^ (h >> 47)) * _M & _U64
    return h ^ (h >> 47)


COMMIT_FRAME = make_frame(bytes((100, 0, COMMIT, 0xFF, 0xFF)))
"""A commit's marker is always these 21 bytes."""


def _string(raw: bytes, at: int) -> tuple[str, int]:
    size, at = varint(raw, at)
    if size > len(raw) - at:
        raise NotUnderstood(f"a text of {size} bytes, of which {len(raw) - at} are there")
    try:
        return raw[at : at + size].decode(), at + size
    except UnicodeDecodeError:
        raise NotUnderstood("a text that is not UTF-8") from None


def _u16(raw: bytes, at: int) -> int:
    if at + _U16.size > len(raw):
        raise NotUnderstood("an entry without its end")
    number: int = _U16.unpack_from(raw, at)[0]
    return number


def _must_be_sound(frame: bytes) -> None:
    if not is_sound(frame):
        raise NotUnderstood("a damaged log entry")


def _path(raw: bytes, at: int) -> tuple[list[str], int]:
    """A QualifiedName: field 100 is the list of its parts."""
    if _u16(raw, at) != 100:
        raise NotUnderstood("a qualified name without its path")
    count, at = varint(raw, at + 2)
    parts = []
    for _ in range(count):
        part, at = _string(raw, at)
        parts.append(part)
    if _u16(raw, at) != _END:
        raise NotUnderstood("a qualified name with more than its path")
    return parts, at + 2


def _fields(raw: bytes, at: int, layout: Mapping[int, _Read], entry: str) -> Iterator[tuple[int, Any]]:
    """Number and value of each field from `at` to the end of the object.

    Raises:
        NotUnderstood: a field is not in the layout, so that it cannot be said where the next one begins.
    """
    while (number := _u16(raw, at)) != _END:
        if number not in layout:
            raise NotUnderstood(f"field {number} in {entry}")
        value, at = layout[number](raw, at + 2)
        yield number, value


_Read = Callable[[bytes, int], tuple[Any, int]]
"""The value at a place, and where it ends."""
_USE_TABLE_LAYOUT: Mapping[int, _Read] = {101: _string, 102: _string, 103: _path}
_ALTER_LAYOUT: Mapping[int, _Read] = {
    200: varint,
    201: _string,
    202: _string,
    203: _string,
    204: varint,
    205: varint,
    206: _path,
    300: varint,
}
"""Schema and table are 202 and 203."""
