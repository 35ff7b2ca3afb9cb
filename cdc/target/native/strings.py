"""How do strings stand in a Native block? Each one's length as a varint, then its bytes, all in a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cdc.target.native.reader import Reader


def encode_strings(array: pa.Array) -> npt.NDArray[np.uint8]:
    """The strings or binaries of `array`, of any Arrow layout; a NULL becomes an empty string."""
    if array.null_count:
        array = pc.fill_null(array, pa.scalar(b"" if _is_binary(array.type) else "", array.type))
    if not _has_offsets(array.type):
        array = array.cast(pa.large_binary() if _is_binary(array.type) else pa.large_string())
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    _, offsets_buffer, data_buffer = array.buffers()
    if not len(array):
        return np.empty(0, np.uint8)
    offsets = np.frombuffer(offsets_buffer, np.int64 if wide else np.int32)
    offsets = offsets[array.offset : array.offset + len(array) + 1]
    if data_buffer is None:
        return np.zeros(len(array), np.uint8)
    data = np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]]
    return assemble(offsets, data)


def assemble(offsets: npt.NDArray[Any], data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Length-prefixed strings from `len(offsets) - 1` pieces of `data`; `data` starts at `offsets[0]`."""
    lengths = np.diff(offsets)
    longest = int(lengths.max())
    if longest < 0x80:
        heads, sizes = lengths.astype(np.uint8), None
    else:
        heads, sizes = _varints(lengths)
    starts = np.arange(len(lengths)) if sizes is None else np.cumsum(sizes) - sizes
    # Where each head goes: after all heads and strings before it.
    starts = starts + (offsets[:-1] - offsets[0])
    out = np.empty(len(heads) + len(data), np.uint8)
    is_data = np.ones(len(out), np.bool_)
    if sizes is None:
        is_data[starts] = False
        out[starts] = heads
    else:
        at = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(len(heads))
        is_data[at] = False
        out[at] = heads
    out[is_data] = data
    return out


def _varints(lengths: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Every length as LEB128, in a row, and how many bytes each takes."""
    lengths = lengths.astype(np.uint64)
    sizes = np.ones(len(lengths), np.int64)
    rest = lengths >> np.uint64(7)
    while rest.any():
        sizes += rest > 0
        rest >>= np.uint64(7)
    first = np.cumsum(sizes) - sizes
    place = np.arange(int(sizes.sum())) - np.repeat(first, sizes)
    parts = np.repeat(lengths, sizes) >> (place * 7).astype(np.uint64) & np.uint64(0x7F)
    more = place < np.repeat(sizes, sizes) - 1
    heads: npt.NDArray[np.uint8] = np.where(more, parts | np.uint64(0x80), parts).astype(np.uint8)
    return heads, sizes


def decode_strings(reader: Reader, rows: int, arrow_type: pa.DataType) -> pa.Array:
    """The next `rows` strings as an array of `arrow_type` (string or binary)."""
    data, at = reader.data, reader.at
    starts, lengths = np.empty(rows, np.int64), np.empty(rows, np.int64)
    for row in range(rows):
        length = data[at]
        at += 1
        if length >= 0x80:
            length, shift = length & 0x7F, 7
            while True:
                octet = data[at]
                at += 1
                length |= (octet & 0x7F) << shift
                if octet < 0x80:
                    break
                shift += 7
        starts[row], lengths[row] = at, length
        at += length
    stretch = np.frombuffer(reader.take(at - reader.at), np.uint8)
    base = at - len(stretch)
    offsets = np.zeros(rows + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    keep = np.ones(len(stretch) + 1, np.int8)
    marks = np.zeros(len(stretch) + 1, np.int8)
    heads = np.concatenate(([0], (starts + lengths - base)[:-1])) if rows else starts
    marks[:-1] = 0
    np.add.at(marks, heads, 1)
    np.add.at(marks, starts - base, -1)
    keep = np.cumsum(marks, dtype=np.int8)[:-1] == 0
    large = pa.large_string() if pa.types.is_string(arrow_type) else pa.large_binary()
    found = pa.Array.from_buffers(large, rows, [None, pa.py_buffer(offsets), pa.py_buffer(stretch[keep])])
    return found.cast(arrow_type)


def _is_binary(arrow_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(arrow_type)
        or pa.types.is_large_binary(arrow_type)
        or pa.types.is_binary_view(arrow_type)
    )


def _has_offsets(arrow_type: pa.DataType) -> bool:
    return not (pa.types.is_string_view(arrow_type) or pa.types.is_binary_view(arrow_type))
