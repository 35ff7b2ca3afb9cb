"""What do INSERT, DELETE and UPDATE frames of the log hold, read where it lies? Columns of Arrow and NumPy.

A frame's payload is objects of DuckDB's BinarySerializer: fields `[u16 number][value]`, ended by 0xFFFF.

* INSERT_TUPLE: 100 the type, 101 a chunk; DELETE_TUPLE alike, of one column of row ids;
* UPDATE_TUPLE: 100 the type, 101 a list that is the column's path, 102 a chunk of new value and row id;
* a chunk: 100 the number of rows, 101 the list of types, 102 the list of vectors;
* a vector: 100 whether it has a mask, 101 the mask (of whole 64-bit words, a bit set where there is a value),
  102 the values of fixed size; of texts in the 2.0 format 107 the bytes of all, 108 the lengths as u32, 109
  the bytes, and in older ones 102 the list of them. Before these, 90 says that it is compressed: 2 constant,
  with a vector of one; 3 a dictionary, 91 the places as u32, 92 the dictionary's size, with its vector; 4 a
  sequence, 91 its start and 92 its step.

(DuckDB: write_ahead_log.cpp, data_chunk.cpp, vector.cpp, binary_serializer.cpp; docs/log-format.md.)

No byte is trusted: what is not exactly laid out so is `NotDecodable`, as is a chunk that does not end where
its frame ends. It is not promised that what is laid out so means what it seems to: that is for the caller to
ask DuckDB.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from cdc.source.format import frames
from cdc.source.format.frames import varint
from cdc.source.format.layouts import (
    FLAG,
    MOST_ROWS,
    ROW_ID,
    Flags,
    Layout,
    Lengths,
    NotDecodable,
    array_of,
    layout_of,
    read_types,
)

LeafPath = tuple[int, ...]
"""A column of an update, as DuckDB's log addresses it: `(column,)` values, `(column, 0)` null flags."""
RowIds = np.ndarray[Any, np.dtype[np.int64]]

_MISTAKES = (frames.NotUnderstood, IndexError, ValueError, OverflowError, struct.error, pa.ArrowException)
"""What reading past an end, or making an array of nonsense, may raise within."""
_INSERT = bytes((100, 0, frames.INSERT, 101, 0, 100, 0))
"""How a payload begins, up to the number of its rows."""
_DELETE = bytes((100, 0, frames.DELETE, 101, 0, 100, 0))
_UPDATE = bytes((100, 0, frames.UPDATE, 101, 0))
_CHUNK_OF_UPDATE = bytes((102, 0, 100, 0))
_END = b"\xff\xff"
_PLAIN = bytes((100, 0, 0))
_MASKED = bytes((100, 0, 1))
_COMPRESSED = bytes((90, 0))
_CONSTANT, _DICTIONARY, _SEQUENCE = 2, 3, 4
_LENGTHS = 107
_LISTED = 102
_SEQUENCES = {11: "i1", 12: "<i2", 13: "<i4", 14: "<i8", 28: "u1", 29: "<u2", 30: "<u4", 31: "<u8"}
"""Types that a sequence may be of: DuckDB has a number's start and step in 64 bits."""


@dataclass(frozen=True, slots=True)
class Updated:
    """New values, or null flags, of one column."""

    values: pa.Array
    """Of null flags, a number that is NULL or not."""
    row_ids: RowIds
    """Of each; the last of one row is the newest."""


@dataclass(frozen=True, slots=True)
class RowChanges:
    """What frames of one table hold."""

    inserts: Sequence[pa.Array]
    """The stored columns of the rows inserted, in order."""
    deletes: RowIds
    updates: dict[LeafPath, Updated]

    @property
    def inserted(self) -> int:
        """Rows."""
        return len(self.inserts[0])


@dataclass(slots=True)
class _Piece:
    """One vector's values."""

    rows: int
    mask: bytes | None
    data: bytes
    lengths: Lengths | None


class FrameDecoder:
    """Decodes the frames of one table. Pure, but that it keeps in mind how its types are written."""

    def __init__(self, types: Sequence[str]) -> None:
        """`types` are those of the stored columns, in order, in DuckDB's spelling.

        Raises:
            NotDecodable: one of them is not known here.
        """
        layouts = [layout_of(kind) for kind in types]
        unknown = sorted({kind for kind, layout in zip(types, layouts, strict=True) if layout is None})
        if unknown:
            raise NotDecodable(f"columns of the type {', '.join(unknown)}")
        self.layouts: tuple[Layout, ...] = tuple(layout for layout in layouts if layout is not None)
        self._known: dict[bytes, bytes] = {}
        """The types of a chunk, by how its payload begins."""

    def changes(self, of: Sequence[bytes]) -> RowChanges:
        """What these INSERT, DELETE and UPDATE frames hold.

        Raises:
            NotDecodable: one of them is another one, is damaged, or is laid out in an unknown way.
        """
        kinds: dict[int, list[bytes]] = {frames.INSERT: [], frames.DELETE: [], frames.UPDATE: []}
        for frame in of:
            if len(frame) < frames.BODY or not frames.is_sound(frame):
                raise NotDecodable("a damaged log entry")
            if (kind := frames.kind(frame)) not in kinds:
                raise NotDecodable(f"a log entry of type {kind}")
            kinds[kind].append(frame)
        return RowChanges(
            self.inserts(kinds[frames.INSERT]),
            self.deletes(kinds[frames.DELETE]),
            self.updates(kinds[frames.UPDATE]),
        )

    def inserts(self, of: Sequence[bytes]) -> list[pa.Array]:
        """The columns of the rows that these INSERT frames hold, in their order.

        Raises:
            NotDecodable: one of them is not.
        """
        try:
            return self._decoded(of, _INSERT, self.layouts)
        except _MISTAKES as error:
            raise NotDecodable(f"an insert: {error}") from error

    def deletes(self, of: Sequence[bytes]) -> RowIds:
        """The row ids that these DELETE frames hold.

        Raises:
            NotDecodable: one of them is not.
        """
        try:
            [row_ids] = self._decoded(of, _DELETE, (ROW_ID,))
            return _numbers(row_ids)
        except _MISTAKES as error:
            raise NotDecodable(f"a deletion: {error}") from error

    def updates(self, of: Sequence[bytes]) -> dict[LeafPath, Updated]:
        """What these UPDATE frames hold, by path.

        Raises:
            NotDecodable: one of them is not, or is of a member of a column.
        """
        by_path: dict[LeafPath, tuple[bytes, list[bytes]]] = {}
        try:
            for frame in of:
                path, head = _path(frame)
                by_path.setdefault(path, (head, []))[1].append(frame)
            found = {}
            for path, (head, some) in by_path.items():
                if not 0 <= path[0] < len(self.layouts) or path[1:] not in ((), (0,)):
                    raise NotDecodable(f"an update of column path {list(path)}")
                value = FLAG if path[1:] else self.layouts[path[0]]
                values, row_ids = self._decoded(some, head, (value, ROW_ID))
                found[path] = Updated(values, _numbers(row_ids))
            return found
        except _MISTAKES as error:
            raise NotDecodable(f"an update: {error}") from error

    def _decoded(self, of: Sequence[bytes], head: bytes, layouts: tuple[Layout, ...]) -> list[pa.Array]:
        """The columns of the chunks in these frames, whose payloads all begin like `head`."""
        if not of:
            return [pa.nulls(0, layout.arrow) for layout in layouts]
        pieces: list[list[_Piece]] = [[] for _ in layouts]
        for frame in of:
            if not frame.startswith(head, frames.FRAME_HEADER.size):
                raise NotDecodable("a log entry of another layout")
            self._read_chunk(frame, head, layouts, pieces)
        return [_joined(layout, parts) for layout, parts in zip(layouts, pieces, strict=True)]

    def _read_chunk(
        self, raw: bytes, head: bytes, layouts: tuple[Layout, ...], pieces: list[list[_Piece]]
    ) -> None:
        rows, at = varint(raw, frames.FRAME_HEADER.size + len(head))
        if not 0 < rows <= MOST_ROWS:
            raise NotDecodable(f"a chunk of {rows} rows")
        at = self._past_types(raw, at, head, layouts)
        for layout, parts in zip(layouts, pieces, strict=True):
            piece, at = _vector(raw, at, rows, layout)
            parts.append(piece)
        if raw[at:] != _END + _END:
            raise NotDecodable(f"a chunk that ends at byte {at} of {len(raw)}")

    def _past_types(self, raw: bytes, at: int, head: bytes, layouts: tuple[Layout, ...]) -> int:
        """Past the types, and the number of vectors. They are written alike in nearly all frames."""
        known = self._known.get(head)
        if known is not None and raw.startswith(known, at):
            return at + len(known)
        begin = at
        if raw[at : at + 2] != b"e\0":
            raise NotDecodable("a chunk without its types")
        at = read_types(raw, at + 2, layouts)
        if raw[at : at + 2] != b"f\0":
            raise NotDecodable("a chunk without its vectors")
        count, at = varint(raw, at + 2)
        if count != len(layouts):
            raise NotDecodable(f"{count} vectors of {len(layouts)} columns")
        self._known[head] = raw[begin:at]
        return at


def _path(raw: bytes) -> tuple[LeafPath, bytes]:
    """Field 101 of an UPDATE frame, and how the payload begins up to its number of rows."""
    begin = frames.FRAME_HEADER.size
    at = begin + len(_UPDATE)
    if raw[begin:at] != _UPDATE:
        raise NotDecodable("an update of another layout")
    depth, at = varint(raw, at)
    if not 0 < depth <= 2:
        raise NotDecodable(f"an update of a column path of {depth}")
    path = []
    for _ in range(depth):
        column, at = varint(raw, at)
        path.append(column)
    return tuple(path), raw[begin:at] + _CHUNK_OF_UPDATE


@lru_cache(4096)
def _sized(field: int, size: int) -> bytes:
    """How a blob of this size in this field begins."""
    out = bytearray(field.to_bytes(2, "little"))
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


def _blob(raw: bytes, at: int, field: int, size: int) -> tuple[bytes, int]:
    """The `size` bytes that must be in this field, and where they end."""
    head = _sized(field, size)
    if not raw.startswith(head, at):
        raise NotDecodable(f"no field {field} of {size} bytes at byte {at}")
    at += len(head)
    data = raw[at : at + size]
    if len(data) != size:
        raise NotDecodable("a field that goes past its frame")
    return data, at + size


def _ended(raw: bytes, at: int) -> int:
    if raw[at : at + 2] != _END:
        raise NotDecodable(f"a vector that does not end at byte {at}")
    return at + 2


def _vector(raw: bytes, at: int, rows: int, layout: Layout) -> tuple[_Piece, int]:
    """The vector at a place, and where it ends."""
    if not raw.startswith(_COMPRESSED, at):
        piece, at = _flat(raw, at, rows, layout)
        return piece, _ended(raw, at)
    kind, at = varint(raw, at + 2)
    if kind == _CONSTANT:
        piece, at = _flat(raw, at, 1, layout)
        return _spread(piece, np.zeros(rows, dtype=np.uint32), layout), _ended(raw, at)
    if kind == _DICTIONARY:
        places, at = _blob(raw, at, 91, 4 * rows)
        if raw[at : at + 2] != b"\\\0":
            raise NotDecodable("a dictionary without its size")
        size, at = varint(raw, at + 2)
        chosen = np.frombuffer(places, dtype="<u4")
        if not 0 < size <= MOST_ROWS or chosen.max() >= size:
            raise NotDecodable(f"a place {chosen.max()} in a dictionary of {size}")
        piece, at = _flat(raw, at, size, layout)
        return _spread(piece, chosen, layout), _ended(raw, at)
    if kind == _SEQUENCE and layout.number in _SEQUENCES:
        if raw[at : at + 2] != b"[\0":
            raise NotDecodable("a sequence without its start")
        start, at = _signed(raw, at + 2)
        if raw[at : at + 2] != b"\\\0":
            raise NotDecodable("a sequence without its step")
        step, at = _signed(raw, at + 2)
        return _sequence(start, step, rows, _SEQUENCES[layout.number]), _ended(raw, at)
    raise NotDecodable(f"a vector of the kind {kind}")


def _flat(raw: bytes, at: int, rows: int, layout: Layout) -> tuple[_Piece, int]:
    mask: bytes | None = None
    if raw.startswith(_PLAIN, at):
        at += 3
    elif raw.startswith(_MASKED, at):
        mask, at = _blob(raw, at + 3, 101, (rows + 63) // 64 * 8)
    else:
        raise NotDecodable(f"no vector at byte {at}")
    if layout.width:
        data, at = _blob(raw, at, 102, rows * layout.width)
        return _Piece(rows, mask, data, None), at
    valid = None if mask is None else _flags(mask, rows)
    field = raw[at]
    if field == _LISTED and not raw[at + 1]:
        data, lengths, at = _listed(raw, at + 2, rows, valid)
    elif field == _LENGTHS and not raw[at + 1]:
        size, at = varint(raw, at + 2)
        each, at = _blob(raw, at, 108, 4 * rows)
        data, at = _blob(raw, at, 109, size)
        lengths = np.frombuffer(each, dtype="<u4")
        if valid is not None:  # DuckDB takes no bytes for them
            lengths = np.where(valid, lengths, 0).astype(np.uint32)
        if int(lengths.sum(dtype=np.uint64)) != size:
            raise NotDecodable(f"texts of {lengths.sum(dtype=np.uint64)} bytes in {size}")
    else:
        raise NotDecodable(f"texts in field {field}")
    return _Piece(rows, mask, data, lengths), at


def _listed(raw: bytes, at: int, rows: int, valid: Flags | None) -> tuple[bytes, Lengths, int]:
    """Texts as a list of lengths and bytes; of a NULL there is some text too."""
    count, at = varint(raw, at)
    if count != rows:
        raise NotDecodable(f"{count} texts of {rows} rows")
    texts = []
    present = [True] * rows if valid is None else valid.tolist()
    for is_there in present:
        size = raw[at]
        if size < 0x80:
            at += 1
        else:
            size, at = varint(raw, at)
        texts.append(raw[at : at + size] if is_there else b"")
        at += size
    if at > len(raw):
        raise NotDecodable("texts that go past their frame")
    return b"".join(texts), np.fromiter(map(len, texts), dtype=np.uint32, count=rows), at


def _signed(raw: bytes, at: int) -> tuple[int, int]:
    """The signed LEB128 integer of 64 bits at `at`, and where it ends."""
    begin = at
    value, at = varint(raw, at)
    if raw[at - 1] & 0x40:
        value -= 1 << 7 * (at - begin)
    if not -(1 << 63) <= value < 1 << 63:
        raise NotDecodable("a number of more than 64 bits")
    return value, at


def _sequence(start: int, step: int, rows: int, kind: str) -> _Piece:
    last = start + step * (rows - 1)
    limits = np.iinfo(kind)
    if not (limits.min <= min(start, last) and max(start, last) <= limits.max):
        raise NotDecodable(f"a sequence from {start} to {last}")
    values = np.array([start + step * n for n in range(rows)], dtype=kind)
    return _Piece(rows, None, values.tobytes(), None)


def _spread(piece: _Piece, places: Lengths, layout: Layout) -> _Piece:
    """The values of `piece` that are chosen by their `places`."""
    mask = None
    if piece.mask is not None:
        mask = _mask(_flags(piece.mask, piece.rows)[places])
    if piece.lengths is None:
        values = np.frombuffer(piece.data, dtype=f"V{layout.width}")
        return _Piece(len(places), mask, values[places].tobytes(), None)
    ends = np.cumsum(piece.lengths, dtype=np.int64).tolist()
    texts = [piece.data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    data = b"".join([texts[place] for place in places.tolist()])
    return _Piece(len(places), mask, data, piece.lengths[places])


def _flags(mask: bytes, rows: int) -> Flags:
    bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8), count=rows, bitorder="little")
    flags: Flags = bits.view(np.bool_)
    return flags


def _mask(flags: Flags) -> bytes:
    return np.packbits(flags, bitorder="little").tobytes()


def _joined(layout: Layout, pieces: Sequence[_Piece]) -> pa.Array:
    """One array of all pieces."""
    if len(pieces) == 1:
        [piece] = pieces
        valid = None if piece.mask is None else _flags(piece.mask, piece.rows)
        return array_of(layout, piece.rows, piece.mask, valid, piece.data, piece.lengths)
    valid = mask = None
    if any(piece.mask is not None for piece in pieces):
        valid = np.concatenate(
            [
                np.ones(piece.rows, dtype=np.bool_) if piece.mask is None else _flags(piece.mask, piece.rows)
                for piece in pieces
            ]
        )
        mask = _mask(valid)
    lengths = [piece.lengths for piece in pieces if piece.lengths is not None]
    return array_of(
        layout,
        sum(piece.rows for piece in pieces),
        mask,
        valid,
        b"".join([piece.data for piece in pieces]),
        np.concatenate(lengths) if lengths else None,
    )


def _numbers(row_ids: pa.Array) -> RowIds:
    if row_ids.null_count:
        raise NotDecodable("a row id that is NULL")
    numbers: RowIds = row_ids.to_numpy(zero_copy_only=False)
    return numbers
