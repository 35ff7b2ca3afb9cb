"""How is a block cut into pieces for the wire, and compressed? The framing of ClickHouse's own streams.

A frame is `[CityHash128 of the rest, 16 bytes][method, 1 byte][size of the frame less the hash, u32][size of
the data, u32][data]` (ClickHouse `src/Compression/CompressedReadBufferBase.cpp`). Native TCP and HTTP with
`decompress=1` take the same frames.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from clickhouse_cityhash.cityhash import CityHash128
from clickhouse_driver.compression import get_compressor_cls

from cdc.rate import Rate
from cdc.target.options import Method

Buffer = bytes | memoryview | npt.NDArray[Any]
"""Contiguous bytes; a NumPy array stands for its own memory."""

CHUNK_BYTES = 1 << 20
"""The server's own frame size (`max_compress_block_size`); it refuses frames of more than 1 GiB."""

_SMALL_BYTES = 1 << 16
"""Pieces below this are gathered: copying them costs less than a system call each."""

_HEADER = struct.Struct("<BII")
_HASH = struct.Struct("<QQ")


class _Compressor(Protocol):
    method_byte: int

    def compress_data(self, data: bytes | memoryview) -> bytes: ...


def chunks(buffers: Iterable[Buffer]) -> Iterator[bytes | memoryview]:
    """The bytes of `buffers` in pieces of at most `CHUNK_BYTES`; large buffers are not copied."""
    gathered = bytearray()
    for buffer in buffers:
        view = _view(buffer)
        if len(gathered) + len(view) <= _SMALL_BYTES:
            gathered += view
            continue
        if gathered:
            yield bytes(gathered)
            gathered.clear()
        if len(view) < _SMALL_BYTES:
            gathered += view
            continue
        for start in range(0, len(view), CHUNK_BYTES):
            yield view[start : start + CHUNK_BYTES]
    if gathered:
        yield bytes(gathered)


def compressed(pieces: Iterable[bytes | memoryview], method: Method) -> Iterator[bytes | memoryview]:
    """Each piece as one frame; as it is where `method` is none."""
    if method == "none":
        yield from pieces
        return
    compressor: _Compressor = get_compressor_cls(method)()
    for piece in pieces:
        # zstd takes bytes only; LZ4 takes any buffer, so large blocks are not copied on the usual path.
        data = compressor.compress_data(bytes(piece) if method == "zstd" else piece)
        header = _HEADER.pack(compressor.method_byte, _HEADER.size + len(data), len(piece))
        frame = header + data
        checksum = CityHash128(frame)
        yield _HASH.pack(checksum >> 64, checksum & 0xFFFF_FFFF_FFFF_FFFF) + frame


def metered(pieces: Iterable[bytes | memoryview], sent: Rate | None) -> Iterator[bytes | memoryview]:
    """The pieces as they are; `sent` is told of each. Nothing waits here, in the middle of a block."""
    for piece in pieces:
        if sent is not None:
            sent.take(len(piece))
        yield piece


def _view(buffer: Buffer) -> memoryview:
    if isinstance(buffer, np.ndarray):
        return buffer.reshape(-1).view(np.uint8).data
    return memoryview(buffer).cast("B")
