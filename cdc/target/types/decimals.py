"""How are decimals held? As Decimal of the same precision and scale, in 4, 8 or 16 bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cdc.target.types.codec import Buffer, Codec, settled

if TYPE_CHECKING:
    from cdc.target.native.reader import Reader


class Decimal(Codec):
    """ClickHouse keeps the low bytes of what Arrow keeps in sixteen, both in two's complement."""

    def __init__(self, precision: int, scale: int) -> None:
        self.clickhouse_type = f"Decimal({precision}, {scale})"
        self.arrow_type = pa.decimal128(precision, scale)
        self.width = 4 if precision <= 9 else 8 if precision <= 18 else 16

    def encode(self, array: pa.Array) -> list[Buffer]:
        whole = settled(array, np.dtype("V16"))
        if self.width == 16:
            return [whole]
        parts = whole.view(np.dtype(f"<i{self.width}")).reshape(len(array), 16 // self.width)
        return [np.ascontiguousarray(parts[:, 0])]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        data = reader.take(rows * self.width)
        if self.width < 16:
            low = np.frombuffer(data, np.dtype(f"<i{self.width}"))
            wide = np.empty((rows, 2), np.int64)
            wide[:, 0] = low
            wide[:, 1] = wide[:, 0] >> 63
            return pa.Array.from_buffers(self.arrow_type, rows, [None, pa.py_buffer(wide)])
        return pa.Array.from_buffers(self.arrow_type, rows, [None, pa.py_buffer(data)])
