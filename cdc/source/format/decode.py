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
from typing import Any

import numpy as np
import pyarrow as pa

from cdc.source.format import frames
from cdc.source.format.frames import varint
from cdc.source.format.layouts import (
    FLAG,
    MOST_ROWS,
    ROW_ID,
    Layout,
    NotDecodable,
    layout_of,
    read_types,
)
from cdc.source.format.together import are_sound, read_together
from cdc.source.format.vectors import Piece, joined, read_vector

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
_MANY = 24
"""Frames that are read together rather than one by one."""
_END = b"\xff\xff"


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
        if any(len(frame) < frames.BODY for frame in of) or not (
            are_sound(of) if len(of) >= _MANY else all(map(frames.is_sound, of))
        ):
            raise NotDecodable("a damaged log entry")
        for frame in of:
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
        pieces: list[list[Piece]] = [[] for _ in layouts]
        if len(of) >= _MANY:
            types = self._types(of[0], head, layouts)
            if (found := read_together(of, head, types, layouts)) is not None:
                return found
        for frame in of:
            if not frame.startswith(head, frames.FRAME_HEADER.size):
                raise NotDecodable("a log entry of another layout")
            self._read_chunk(frame, head, layouts, pieces)
        return [joined(layout, parts) for layout, parts in zip(layouts, pieces, strict=True)]

    def _read_chunk(
        self, raw: bytes, head: bytes, layouts: tuple[Layout, ...], pieces: list[list[Piece]]
    ) -> None:
        rows, at = varint(raw, frames.FRAME_HEADER.size + len(head))
        if not 0 < rows <= MOST_ROWS:
            raise NotDecodable(f"a chunk of {rows} rows")
        at = self._past_types(raw, at, head, layouts)
        for layout, parts in zip(layouts, pieces, strict=True):
            piece, at = read_vector(raw, at, rows, layout)
            parts.append(piece)
        if raw[at:] != _END + _END:
            raise NotDecodable(f"a chunk that ends at byte {at} of {len(raw)}")

    def _types(self, frame: bytes, head: bytes, layouts: tuple[Layout, ...]) -> bytes:
        """The types of the chunk in this frame, as they are written."""
        if (known := self._known.get(head)) is not None:
            return known
        if not frame.startswith(head, frames.FRAME_HEADER.size):
            raise NotDecodable("a log entry of another layout")
        self._past_types(frame, varint(frame, frames.FRAME_HEADER.size + len(head))[1], head, layouts)
        return self._known[head]

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


def _numbers(row_ids: pa.Array) -> RowIds:
    if row_ids.null_count:
        raise NotDecodable("a row id that is NULL")
    numbers: RowIds = row_ids.to_numpy(zero_copy_only=False)
    return numbers
