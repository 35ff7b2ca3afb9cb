"""Blocks cut into pieces and framed: clickhouse-driver's own reader gets the same bytes back."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from clickhouse_driver.bufferedreader import CompressedBufferedReader
from clickhouse_driver.context import Context
from clickhouse_driver.streams.compressed import CompressedBlockInputStream
from hypothesis import given
from hypothesis import strategies as st

from cdc.target.options import Method
from cdc.target.transport.frames import CHUNK_BYTES, Buffer, chunks, compressed


def joined(buffers: list[Buffer]) -> bytes:
    return b"".join(b if isinstance(b, bytes) else b.tobytes() for b in buffers)


@given(st.lists(st.one_of(st.binary(max_size=300), st.integers(60_000, 70_000).map(bytes)), max_size=8))
def test_chunks_are_the_same_bytes_in_the_same_order(buffers: list[bytes]) -> None:
    assert b"".join(map(bytes, chunks(buffers))) == b"".join(buffers)


def test_no_chunk_is_larger_than_the_servers_frames() -> None:
    numbers = np.arange(500_000, dtype=np.int64)  # 4 MB
    pieces = list(chunks([b"head", numbers, b"", np.zeros(0, np.uint8), numbers[:10], memoryview(b"tail")]))
    assert max(map(len, pieces)) <= CHUNK_BYTES
    assert b"".join(map(bytes, pieces)) == b"head" + numbers.tobytes() + numbers[:10].tobytes() + b"tail"


def test_a_large_buffer_is_not_copied() -> None:
    numbers = np.arange(500_000, dtype=np.int64)
    pieces = list(chunks([numbers]))
    assert all(isinstance(piece, memoryview) and np.shares_memory(piece, numbers) for piece in pieces)


@pytest.mark.parametrize("method", ["lz4", "zstd"])
def test_clickhouse_driver_reads_the_frames(method: Method) -> None:
    body: list[Buffer] = [b"head", np.arange(300_000, dtype=np.int64), b"tail"]
    stream = CompressedBlockInputStream(BytesIO(b"".join(compressed(chunks(body), method))), Context())
    reader = CompressedBufferedReader(stream.read_block, 1)
    assert reader.read(len(joined(body))) == joined(body)


def test_without_compression_the_pieces_are_sent_as_they_are() -> None:
    body: list[Buffer] = [b"head", np.arange(300_000, dtype=np.int64)]
    assert b"".join(map(bytes, compressed(chunks(body), "none"))) == joined(body)
