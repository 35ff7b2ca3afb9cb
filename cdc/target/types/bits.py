"""How is a BIT string held? As text of 0 and 1, its bits in order.

DuckDB's layout: one byte with the count of padding bits, then the bits from the highest on, the first byte
filled up with that many ones (src/common/types/bit.cpp).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cdc.target.native.strings import assemble, decode_strings, runs
from cdc.target.types.codec import Buffer, Codec

if TYPE_CHECKING:
    from cdc.target.native.reader import Reader

_ZERO = ord("0")


class Bits(Codec):
    """A String of 0 and 1."""

    clickhouse_type = "String"
    arrow_type = pa.opaque(pa.binary(), "bit", "DuckDB")
    note = "text of 0 and 1"

    def encode(self, array: pa.Array) -> list[Buffer]:
        array = array
        if not len(array):
            return [b""]
        if array.null_count:
            array = pc.fill_null(array, pa.scalar(b"\0", array.type))
        offsets = np.frombuffer(array.buffers()[1], np.int32)
        offsets = offsets[array.offset : array.offset + len(array) + 1].astype(np.int64)
        octets = np.frombuffer(array.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
        heads = offsets[:-1] - offsets[0]
        padding = octets[heads].astype(np.int64)
        bodies = 8 * (np.diff(offsets) - 1)
        bits = np.unpackbits(np.delete(octets, heads))
        bits = np.delete(bits, runs(np.cumsum(bodies) - bodies, padding))
        ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(bodies - padding)))
        return [assemble(ends, bits + np.uint8(_ZERO))]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        text = decode_strings(reader, rows, pa.binary())
        ends = np.frombuffer(text.buffers()[1], np.int32)[: rows + 1].astype(np.int64)
        bits = np.frombuffer(text.buffers()[2] or b"", np.uint8)[: ends[-1]] - np.uint8(_ZERO)
        lengths = np.diff(ends)
        padding = -lengths % 8
        octets = np.packbits(np.insert(bits, np.repeat(ends[:-1], padding), 1))
        sizes = (lengths + padding) // 8
        data = np.insert(octets, np.cumsum(sizes) - sizes, padding.astype(np.uint8))
        offsets = np.concatenate((np.zeros(1, np.int32), np.cumsum(sizes + 1).astype(np.int32)))
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.binary(), rows, buffers)
