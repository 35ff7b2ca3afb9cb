"""How do strings stand in a Native block? Each one's length as a varint, then its bytes, all in a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cdc.target.native.reader import Reader


def encode_strings(array: pa.Array) -> npt.NDArray[np.uint8]:
    """The strings or binaries of `array`; a NULL becomes an empty string."""
    if not len(array):
        return np.empty(0, np.uint8)
    if array.null_count:
        array = pc.fill_null(array, b"" if pa.types.is_binary(array.type) else "")
    _, ends, data = array.buffers()
    offsets = np.frombuffer(ends, np.int32, len(array) + 1, array.offset * 4)
    octets = np.frombuffer(data or b"", np.uint8)[offsets[0] : offsets[-1]]
    return assemble(offsets, octets)


def assemble(offsets: npt.NDArray[Any], data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Length-prefixed strings from `len(offsets) - 1` pieces of `data`; `data` starts at `offsets[0]`."""
    lengths = np.diff(offsets)
    if int(lengths.max()) < 0x80:  # the usual case: every length is one byte
        heads = lengths.astype(np.uint8)
        places = np.arange(len(lengths)) + (offsets[:-1] - offsets[0])
    else:
        heads, sizes = _varints(lengths)
        places = runs(np.cumsum(sizes) - sizes + (offsets[:-1] - offsets[0]), sizes)
    out = np.empty(len(heads) + len(data), np.uint8)
    is_data = np.ones(len(out), np.bool_)
    is_data[places] = False
    out[places] = heads
    out[is_data] = data
    return out


def runs(starts: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The indexes `start`, `start + 1`, … of every run, one run after the other."""
    before = np.cumsum(lengths) - lengths
    found: npt.NDArray[np.int64] = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    return found


def _varints(lengths: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Every length as LEB128, in a row, and how many bytes each takes."""
    lengths = lengths.astype(np.uint64)
    sizes = np.ones(len(lengths), np.int64)
    rest = lengths >> np.uint64(7)
    while rest.any():
        sizes += rest > 0
        rest >>= np.uint64(7)
    place = runs(np.zeros(len(sizes), np.int64), sizes)
    parts = np.repeat(lengths, sizes) >> (place * 7).astype(np.uint64) & np.uint64(0x7F)
    more = place < np.repeat(sizes, sizes) - 1
    heads: npt.NDArray[np.uint8] = np.where(more, parts | np.uint64(0x80), parts).astype(np.uint8)
    return heads, sizes


def decode_strings(reader: Reader, rows: int, arrow_type: pa.DataType) -> pa.Array:
    """The next `rows` strings as an array of `arrow_type` (string or binary)."""
    # Where a string starts is known only from the one before it: this is the one loop over values here.
    data, begin = reader.data, reader.at
    at, starts, lengths = begin, [], []
    for _ in range(rows):
        if at < len(data) and data[at] < 0x80:
            length = data[at]
            at += 1
        else:
            reader.at = min(at, len(data))
            length = reader.varint()
            at = reader.at
        starts.append(at)
        lengths.append(length)
        at += length
    reader.at = begin
    octets = np.frombuffer(reader.take(at - begin), np.uint8)
    offsets = np.zeros(rows + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    first = np.array(starts, np.int64) - begin
    heads = np.diff(first - offsets[:-1], prepend=0)
    strings = np.delete(octets, runs(first - heads, heads))
    large = pa.large_string() if pa.types.is_string(arrow_type) else pa.large_binary()
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(strings)]
    return pa.Array.from_buffers(large, rows, buffers).cast(arrow_type)
