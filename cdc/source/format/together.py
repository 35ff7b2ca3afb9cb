"""Many frames that are laid out alike, read at once: column by column over all of them, not frame by frame.

Commits of a few rows each make many small frames, of which each has the same number of rows and the same
types. They are read as `cdc.source.format.decode` reads one frame, and checked as much; what is not laid out
alike (compressed vectors, texts of several rows in a list, rows in other numbers) is left to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cdc.source.format.frames import FRAME_HEADER
from cdc.source.format.layouts import Layout, NotDecodable, array_of

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

_MOST_ROWS = 127
"""Of a frame, so that their number is one byte."""
_SPARE = 64 + 16 * _MOST_ROWS
"""Bytes behind the last frame that may be looked at before it is known where a vector ends."""
_SEED = np.uint64(5381)
_WORD_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR = np.uint64(0xC6A4A7935BD1E995)
_REST_SEED = np.uint64(0xE17A1465)
_SHIFT = np.uint64(47)


class _Unlike(Exception):
    """The frames are not laid out alike."""


def are_sound(of: Sequence[bytes]) -> bool:
    """Whether each of these frames is of the size and the checksum that stand in it: as `frames.is_sound`."""
    padded = b"".join([frame + bytes(-len(frame) % 8) for frame in of])
    words = np.frombuffer(padded, dtype="<u8")
    sizes = np.fromiter(map(len, of), dtype=np.int64, count=len(of)) - FRAME_HEADER.size
    ends = np.cumsum((sizes + FRAME_HEADER.size + 7) // 8)
    begins = np.concatenate([[0], ends[:-1]])
    if not (words[begins].astype(np.int64) == sizes).all():
        return False
    products = words * _WORD_FACTOR
    products[begins] = products[begins + 1] = 0  # the frames' headers
    rest = sizes % 8
    partial = rest > 0
    products[ends[partial] - 1] = 0
    sums = np.bitwise_xor.reduceat(products, begins) ^ _SEED
    h = _REST_SEED ^ (rest[partial].astype(np.uint64) * _FACTOR)
    h = (h ^ words[ends[partial] - 1]) * _FACTOR
    h = (h ^ (h >> _SHIFT)) * _FACTOR
    sums[partial] ^= h ^ (h >> _SHIFT)
    return bool((sums == words[begins + 1]).all())


def read_together(
    of: Sequence[bytes], begin: bytes, types: bytes, layouts: Sequence[Layout]
) -> list[pa.Array] | None:
    """The columns of the chunks in these frames, or None where they are not laid out alike.

    Args:
        begin: how a payload begins, up to the number of its rows.
        types: what follows that number in all frames, up to the first vector.

    Raises:
        NotDecodable: they are damaged.
    """
    at = FRAME_HEADER.size + len(begin)
    rows = of[0][at]
    head = begin + bytes([rows]) + types
    if not 0 < rows <= _MOST_ROWS or not all(frame.startswith(head, FRAME_HEADER.size) for frame in of):
        return None
    ends = np.cumsum(np.fromiter(map(len, of), dtype=np.int64, count=len(of)))
    raw = np.frombuffer(b"".join([*of, bytes(_SPARE)]), dtype=np.uint8)
    reader = _Alike(raw, np.concatenate([[0], ends[:-1]]) + FRAME_HEADER.size + len(head), ends, rows)
    try:
        columns = [reader.vector(layout) for layout in layouts]
        reader.expect(b"\xff\xff\xff\xff")
    except _Unlike:
        return None
    if (reader.at != ends).any():
        raise NotDecodable("a chunk that does not end where its frame ends")
    return columns


class _Alike:
    """Where each frame is read."""

    def __init__(self, raw: Bytes, at: Numbers, ends: Numbers, rows: int) -> None:
        self._raw = raw
        self._ends = ends
        self._rows = rows
        self.at = at

    def vector(self, layout: Layout) -> pa.Array:
        """The values of the next vector of all frames."""
        valid = self._validity()
        count = len(self.at) * self._rows
        mask = None if valid is None else np.packbits(valid, bitorder="little").tobytes()
        lengths: Any = None
        if layout.width:
            data = self._blob(102, self._rows * layout.width).tobytes()
        else:
            data, lengths = self._texts(valid)
        self.expect(b"\xff\xff")
        return array_of(layout, count, mask, valid, data, lengths)

    def expect(self, same: bytes) -> None:
        """These bytes must be next in every frame."""
        if (self._take(len(same)) != np.frombuffer(same, dtype=np.uint8)).any():
            raise _Unlike

    def _take(self, size: int) -> Bytes:
        """The next `size` bytes of each frame, a few."""
        if (self.at + size > self._ends).any():
            raise NotDecodable("a chunk that goes past its frame")
        found: Bytes = self._raw[self.at[:, None] + np.arange(size)]
        self.at = self.at + size
        return found

    def _blob(self, field: int, size: int) -> Bytes:
        self.expect(field.to_bytes(2, "little"))
        if (self._varint() != size).any():
            raise _Unlike
        return self._take(size)

    def _validity(self) -> Flags | None:
        """Which values are not NULL; None: none is."""
        self.expect(b"d\0")
        masked = self._take(1)[:, 0]
        if (masked > 1).any():
            raise _Unlike
        if not masked.any():
            return None
        every, some = self.at, masked == 1
        ends = self._ends
        self.at, self._ends = every[some], ends[some]
        words = self._blob(101, (self._rows + 63) // 64 * 8)
        bits = np.ones((len(every), self._rows), dtype=np.uint8)
        bits[some] = np.unpackbits(words, axis=1, count=self._rows, bitorder="little")
        every = every.copy()
        every[some] = self.at
        self.at, self._ends = every, ends
        flags: Flags = bits.reshape(-1).astype(np.bool_)
        return flags

    def _texts(self, valid: Flags | None) -> tuple[bytes, Any]:
        field = self._take(2)
        if (field[:, 1] != 0).any() or (field[:, 0] != field[0, 0]).any():
            raise _Unlike
        if field[0, 0] == 102 and self._rows == 1:
            if (self._varint() != 1).any():
                raise _Unlike
            sizes = self._varint()
            lengths = sizes if valid is None else np.where(valid, sizes, 0)
        elif field[0, 0] == 107:
            sizes = self._varint()
            lengths = self._blob(108, 4 * self._rows).view("<u4").reshape(-1).astype(np.int64)
            if valid is not None:
                lengths = np.where(valid, lengths, 0)
            if (lengths.reshape(-1, self._rows).sum(axis=1) != sizes).any():
                raise NotDecodable("texts of other lengths than their bytes")
            self.expect(b"m\0")
            if (self._varint() != sizes).any():
                raise NotDecodable("texts of two lengths")
        else:
            raise _Unlike
        if (self.at + sizes > self._ends).any():
            raise NotDecodable("texts that go past their frame")
        taken = lengths.reshape(-1, self._rows).sum(axis=1)
        begins = np.repeat(self.at - (np.cumsum(taken) - taken), taken)
        data = self._raw[begins + np.arange(len(begins))].tobytes()
        self.at = self.at + sizes
        return data, lengths.astype(np.uint32)

    def _varint(self) -> Numbers:
        """The next LEB128 integer of each frame, of three bytes at most."""
        if (self.at >= self._ends).any():
            raise NotDecodable("a chunk that goes past its frame")
        value = np.zeros(len(self.at), dtype=np.int64)
        more = np.ones(len(self.at), dtype=np.bool_)
        for shift in (0, 7, 14):
            byte = self._raw[self.at].astype(np.int64)
            value = np.where(more, value | (byte & 0x7F) << shift, value)
            self.at = self.at + more
            more = more & (byte >= 0x80)
            if not more.any():
                return value
        raise _Unlike
