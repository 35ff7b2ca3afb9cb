"""How is a UUID held? As UUID: two little-endian 64-bit halves, the high half first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cdc.target.types.codec import Buffer, Codec, settled

if TYPE_CHECKING:
    from cdc.target.native.reader import Reader


class Uuid(Codec):
    """Arrow's sixteen bytes are big-endian; each half is turned round."""

    clickhouse_type = "UUID"
    arrow_type = pa.uuid()

    def encode(self, array: pa.Array) -> list[Buffer]:
        raw = settled(array, np.dtype("V16"))
        return [raw.view(np.uint64).byteswap()]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        halves = np.frombuffer(reader.take(rows * 16), np.uint64).byteswap()
        return pa.Array.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(halves)])
