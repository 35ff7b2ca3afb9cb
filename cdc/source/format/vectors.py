"""What are the values of one vector in a frame of the log? See `cdc.source.format.decode` for the layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from cdc.source.format.frames import varint
from cdc.source.format.layouts import MOST_ROWS, Flags, Layout, Lengths, NotDecodable, array_of

_END = b"\xff\xff"
_PLAIN = bytes((100, 0, 0))
_MASKED = bytes((100, 0, 1))
_COMPRESSED = bytes((90, 0))
_CONSTANT, _DICTIONARY, _SEQUENCE = 2, 3, 4
_LENGTHS = 107
_LISTED = 102
_SEQUENCES = {11: "i1", 12: "<i2", 13: "<i4", 14: "<i8", 28: "u1", 29: "<u2", 30: "<u4", 31: "<u8"}
"""Types that a sequence may be of: DuckDB has a number's start and step in 64 bits."""


@dataclass(slots=True)
class Piece:
    """One vector's values."""

    rows: int
    mask: bytes | None
    data: bytes
    lengths: Lengths | None


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


def read_vector(raw: bytes, at: int, rows: int, layout: Layout) -> tuple[Piece, int]:
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


def _flat(raw: bytes, at: int, rows: int, layout: Layout) -> tuple[Piece, int]:
    mask: bytes | None = None
    if raw.startswith(_PLAIN, at):
        at += 3
    elif raw.startswith(_MASKED, at):
        mask, at = _blob(raw, at + 3, 101, (rows + 63) // 64 * 8)
    else:
        raise NotDecodable(f"no vector at byte {at}")
    if layout.width:
        data, at = _blob(raw, at, 102, rows * layout.width)
        return Piece(rows, mask, data, None), at
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
    return Piece(rows, mask, data, lengths), at


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


def _sequence(start: int, step: int, rows: int, kind: str) -> Piece:
    last = start + step * (rows - 1)
    limits = np.iinfo(kind)
    if not (limits.min <= min(start, last) and max(start, last) <= limits.max):
        raise NotDecodable(f"a sequence from {start} to {last}")
    values = np.array([start + step * n for n in range(rows)], dtype=kind)
    return Piece(rows, None, values.tobytes(), None)


def _spread(piece: Piece, places: Lengths, layout: Layout) -> Piece:
    """The values of `piece` that are chosen by their `places`."""
    mask = None
    if piece.mask is not None:
        mask = _mask(_flags(piece.mask, piece.rows)[places])
    if piece.lengths is None:
        values = np.frombuffer(piece.data, dtype=f"V{layout.width}")
        return Piece(len(places), mask, values[places].tobytes(), None)
    ends = np.cumsum(piece.lengths, dtype=np.int64).tolist()
    texts = [piece.data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    data = b"".join([texts[place] for place in places.tolist()])
    return Piece(len(places), mask, data, piece.lengths[places])


def _flags(mask: bytes, rows: int) -> Flags:
    bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8), count=rows, bitorder="little")
    flags: Flags = bits.view(np.bool_)
    return flags


def _mask(flags: Flags) -> bytes:
    return np.packbits(flags, bitorder="little").tobytes()


def joined(layout: Layout, pieces: Sequence[Piece]) -> pa.Array:
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
