"""How are integers past 64 bits held? As Int128 and UInt128, else as decimal text."""

from __future__ import annotations

from decimal import Decimal as Number
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cdc.target.native.strings import decode_strings, encode_strings
from cdc.target.types.codec import Buffer, Codec, settled

if TYPE_CHECKING:
    from cdc.target.native.reader import Reader
    from cdc.target.version import ServerVersion

NAMES = ("HUGEINT", "UHUGEINT", "BIGNUM")

_RAW = np.dtype("V16")
_AS_TEXT = "decimal text"


class Wide(Codec):
    """Sixteen little-endian bytes, the same in Arrow and in ClickHouse."""

    def __init__(self, name: str) -> None:
        self.clickhouse_type = "Int128" if name == "HUGEINT" else "UInt128"
        self.arrow_type = _opaque(pa.binary(16), name)

    def encode(self, array: pa.Array) -> list[Buffer]:
        return [settled(array, _RAW)]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        buffer = pa.py_buffer(reader.take(rows * 16))
        return pa.Array.from_buffers(pa.binary(16), rows, [None, buffer])


class WideText(Codec):
    """Decimal text, for servers without 128-bit integers; Decimal(38) would not hold the 39th digit."""

    clickhouse_type = "String"
    note = _AS_TEXT
    _DIGITS = pa.decimal256(39, 0)

    def __init__(self, name: str) -> None:
        self.signed = name == "HUGEINT"
        self.arrow_type = _opaque(pa.binary(16), name)

    def encode(self, array: pa.Array) -> list[Buffer]:
        halves = settled(array, _RAW).view(np.int64).reshape(-1, 2)
        limbs = np.empty((len(halves), 4), np.int64)
        limbs[:, :2] = halves
        limbs[:, 2:] = halves[:, 1:] >> 63 if self.signed else 0
        digits = pa.Array.from_buffers(self._DIGITS, len(array), [None, pa.py_buffer(limbs)])
        return [encode_strings(digits.cast(pa.string()))]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        digits = decode_strings(reader, rows, pa.string()).cast(self._DIGITS)
        limbs = np.frombuffer(digits.buffers()[1], np.int64)[: rows * 4].reshape(-1, 4)
        halves = pa.py_buffer(np.ascontiguousarray(limbs[:, :2]))
        return pa.Array.from_buffers(pa.binary(16), rows, [None, halves])


class Bignum(Codec):
    """Decimal text, one value at a time: BIGNUM is rare, and of any length.

    DuckDB's layout: a sign bit and the count of bytes in three bytes, then the magnitude, big-endian; all of
    it complemented when negative (src/common/types/bignum.cpp). `Number` converts where `int` has a limit.
    """

    clickhouse_type = "String"
    note = _AS_TEXT

    def __init__(self) -> None:
        self.arrow_type = _opaque(pa.binary(), "BIGNUM")

    def encode(self, array: pa.Array) -> list[Buffer]:
        texts = [_bignum_text(raw) if raw else "" for raw in array.to_pylist()]
        return [encode_strings(pa.array(texts, pa.string()))]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        texts = decode_strings(reader, rows, pa.string()).to_pylist()
        return pa.array([_bignum_raw(text) if text else b"" for text in texts], pa.binary())


def codec(name: str, server: ServerVersion) -> Codec:
    """The codec of the DuckDB type `name`, one of `NAMES`."""
    if name == "BIGNUM":
        return Bignum()
    return Wide(name) if server.has_int128 else WideText(name)


def _opaque(storage: pa.DataType, name: str) -> pa.DataType:
    return pa.opaque(storage, name.lower(), "DuckDB")


def _bignum_text(raw: bytes) -> str:
    if raw[0] & 0x80:
        return str(Number(int.from_bytes(raw[3:], "big")))
    magnitude = int.from_bytes(bytes(octet ^ 0xFF for octet in raw[3:]), "big")
    return f"-{Number(magnitude)}"


def _bignum_raw(text: str) -> bytes:
    magnitude = int(Number(text.removeprefix("-")))
    body = magnitude.to_bytes(max(1, (magnitude.bit_length() + 7) // 8), "big")
    raw = (len(body) | 0x800000).to_bytes(3, "big") + body
    return bytes(octet ^ 0xFF for octet in raw) if text.startswith("-") else raw
