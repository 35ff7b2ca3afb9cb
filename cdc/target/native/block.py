"""What are a block's bytes? Columns of equal length in the Native format, for every protocol revision.

The layout: the block's information (native TCP only), the numbers of columns and rows as varints, then for
each column its name, its type, on newer connections a byte for its serialization, and its data
(https://clickhouse.com/docs/native-protocol/columns).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from cdc.errors import TargetError
from cdc.target.native.reader import Reader
from cdc.target.quote import canonical_type
from cdc.target.types.codec import ColumnCodec, Octets

REVISION_BLOCK_INFO = 51903
REVISION_CUSTOM_SERIALIZATION = 54454

# Field 1: is_overflows = 0; field 2: bucket_num = -1; end.
_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"


@dataclass(frozen=True, slots=True)
class EncodedColumn:
    """One column: its name, its ClickHouse type, and its data as pieces in order."""

    name: str
    clickhouse_type: str
    data: tuple[Octets, ...]


@dataclass(frozen=True, slots=True)
class NativeBlock:
    """Columns encoded whole, ready to be sent over any transport."""

    columns: tuple[EncodedColumn, ...]
    rows: int

    @property
    def nbytes(self) -> int:
        """Bytes of data, without names and types."""
        return sum(len(part) for column in self.columns for part in column.data)

    def body(self, revision: int = 0) -> list[Octets]:
        """The block's bytes as pieces in order.

        Args:
            revision: the native protocol's revision in use; 0 for `FORMAT Native` over HTTP or from a file.
        """
        return list(self._pieces(revision))

    def _pieces(self, revision: int) -> Iterator[Octets]:
        if revision >= REVISION_BLOCK_INFO:
            yield _BLOCK_INFO
        yield varint(len(self.columns)) + varint(self.rows)
        serialization = b"\x00" if revision >= REVISION_CUSTOM_SERIALIZATION else b""
        for column in self.columns:
            yield string(column.name) + string(column.clickhouse_type) + serialization
            if self.rows:
                yield from column.data


def encode_block(codecs: Sequence[ColumnCodec], arrays: Sequence[pa.Array], rows: int) -> NativeBlock:
    """`arrays` as one block; each array has `rows` values, and none that its codec rejects."""
    columns = (
        EncodedColumn(codec.name, codec.clickhouse_type, tuple(codec.encode(array)))
        for codec, array in zip(codecs, arrays, strict=True)
    )
    return NativeBlock(tuple(columns), rows)


def decode_block(reader: Reader, codecs: Sequence[ColumnCodec], revision: int = 0) -> pa.RecordBatch:
    """The next block of `reader`, whose columns must be those of `codecs`, in order.

    Raises:
        TargetError: if the block has other columns, or ends early.
    """
    if revision >= REVISION_BLOCK_INFO:
        reader.take(len(_BLOCK_INFO))
    count, rows = reader.varint(), reader.varint()
    if count != len(codecs):
        raise _unexpected(f"{count} columns instead of {len(codecs)}")
    arrays = []
    for codec in codecs:
        name, clickhouse_type = reader.text(), reader.text()
        same_type = canonical_type(clickhouse_type) == canonical_type(codec.clickhouse_type)
        if name != codec.name or not same_type:
            expected = f"{codec.name!r} of type {codec.clickhouse_type}"
            raise _unexpected(f"column {name!r} of type {clickhouse_type} instead of {expected}")
        if revision >= REVISION_CUSTOM_SERIALIZATION and reader.take(1)[0]:
            raise _unexpected(f"column {name!r} has a custom serialization")
        arrays.append(codec.decode(reader, rows))
    return pa.RecordBatch.from_arrays(arrays, names=[codec.name for codec in codecs])


def decode_blocks(
    data: bytes | bytearray | memoryview, codecs: Sequence[ColumnCodec]
) -> Iterator[pa.RecordBatch]:
    """Every block of a `FORMAT Native` answer, in order."""
    reader = Reader(data)
    while not reader.ended:
        yield decode_block(reader, codecs)


def varint(number: int) -> bytes:
    """`number` as unsigned LEB128."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def string(text: str) -> bytes:
    """`text` as a length and its UTF-8."""
    raw = text.encode()
    return varint(len(raw)) + raw


def _unexpected(problem: str) -> TargetError:
    return TargetError(
        "read", "a Native block", problem, "Compare the table with `cdc schema diff`; apply what differs"
    )
