"""How do bytes come off a socket, and how are the protocol's primitive values written?

Reading leans on clickhouse-driver's compiled reader, which scans a million strings without a Python object
per value; a `Stream` adds that the raw bytes behind what was scanned can be had, so that a block is cut out
of the stream instead of being decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pyarrow as pa
from clickhouse_cityhash.cityhash import CityHash128
from clickhouse_driver.bufferedreader import CompressedBufferedReader
from clickhouse_driver.varint import make_varint, read_varint

LZ4, ZSTD, NONE = 0x82, 0x90, 0x02
"""Method byte of a compressed frame (ClickHouse, src/Compression/CompressionInfo.h)."""

_CODECS = {LZ4: "lz4_raw", ZSTD: "zstd"}

FRAME_LIMIT = 1 << 30
"""A frame announcing more is not a frame; 1 GiB is the server's own DBMS_MAX_COMPRESSED_SIZE."""


UNEXPECTED_PACKET, CHECKSUM_DOESNT_MATCH, UNKNOWN_COMPRESSION_METHOD = 101, 40, 89


class ProtocolError(Exception):
    """The peer sent what cannot be served, so that the connection cannot go on; `code` is ClickHouse's."""

    def __init__(self, text: str, code: int = UNEXPECTED_PACKET) -> None:
        super().__init__(text)
        self.code = code


class Stream:
    """Bytes from `fill`, which returns the next non-empty piece, or nothing at the end.

    Every read raises EOFError when the bytes end first.
    """

    def __init__(self, fill: Callable[[], bytes]) -> None:
        self._source = fill
        self._mark: int | None = None
        self._kept: list[bytes] = []
        self._reader = CompressedBufferedReader(self._fill, 0)

    def _fill(self) -> bytes:
        # The compiled reader asks for more only when all of its buffer is consumed.
        if self._mark is not None:
            self._kept.append(bytes(self._reader.buffer[self._mark : self._reader.current_buffer_size]))
            self._mark = 0
        return self._source()

    def buffered(self) -> bool:
        """Whether bytes are here that nothing has read yet."""
        return bool(self._reader.position < self._reader.current_buffer_size)

    def has_more(self) -> bool:
        """Whether another byte comes, waiting for it; False at a clean end."""
        if not self.buffered():
            try:
                self._reader.read_into_buffer()
            except EOFError:
                return False
            self._reader.position = 0
        return True

    def mark(self) -> None:
        """Start keeping what is read from here on, for `taken`."""
        self._kept.clear()
        self._mark = self._reader.position

    def taken(self) -> bytes:
        """The raw bytes read since `mark`; stops keeping."""
        self._kept.append(bytes(self._reader.buffer[self._mark : self._reader.position]))
        self._mark = None
        return b"".join(self._kept)

    def skip(self, count: int) -> None:
        reader = self._reader
        while count:
            here = reader.current_buffer_size - reader.position
            if not here:
                reader.read_into_buffer()
                reader.position = 0
                continue
            step = min(here, count)
            reader.position += step
            count -= step

    def take(self, count: int) -> bytes:
        """Read `count` bytes; not while a mark is set."""
        self.mark()
        self.skip(count)
        return self.taken()

    def skip_strings(self, count: int) -> None:
        self._reader.read_strings_arrow(count)

    def byte(self) -> int:
        return int(self._reader.read_one())

    def varint(self) -> int:
        return int(read_varint(self._reader))

    def u64(self) -> int:
        return int(struct.unpack("<Q", self._reader.read(8))[0])

    def blob(self) -> bytes:
        return bytes(self._reader.read(self.varint()))

    def text(self) -> str:
        return self.blob().decode("utf-8", "surrogateescape")


def string(value: str | bytes) -> bytes:
    """A length-prefixed string."""
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return varint(len(data)) + data


def varint(value: int) -> bytes:
    return bytes(make_varint(value))


def stream_of(data: bytes) -> Stream:
    """A stream over bytes already here."""
    pieces = [data]
    return Stream(lambda: pieces.pop() if pieces else b"")


def frame(data: bytes, method: int) -> bytes:
    """One compressed frame: checksum, method, both sizes (the first with its 9 bytes of header), the data."""
    packed = pa.compress(data, _CODECS[method], asbytes=True) if method in _CODECS else data
    body = struct.pack("<BII", method, len(packed) + 9, len(data)) + packed
    return _checksum(body) + body


def unframe(stream: Stream) -> bytes:
    """The data of the next compressed frame.

    Raises:
        ProtocolError: the checksum, the method or the size is not one.
        EOFError: the stream ends inside the frame.
    """
    expected = stream.take(16)
    header = stream.take(9)
    method, size, plain_size = struct.unpack("<BII", header)
    if not 9 <= size <= FRAME_LIMIT or plain_size > FRAME_LIMIT:
        raise ProtocolError(f"a compressed frame of {size} bytes holding {plain_size}")
    packed = stream.take(size - 9)
    if _checksum(header + packed) != expected:
        raise ProtocolError("Checksum doesn't match: corrupted data", CHECKSUM_DOESNT_MATCH)
    if method in _CODECS:
        return bytes(pa.decompress(packed, plain_size, _CODECS[method], asbytes=True))
    if method == NONE:
        return packed
    raise ProtocolError(f"Unknown compression method: {method:#x}", UNKNOWN_COMPRESSION_METHOD)


def _checksum(body: bytes) -> bytes:
    digest = int(CityHash128(body))
    # Two little-endian halves, the high one first (writeBinaryLittleEndian of CityHash_v1_0_2::uint128).
    return struct.pack("<QQ", digest >> 64, digest & 0xFFFF_FFFF_FFFF_FFFF)
