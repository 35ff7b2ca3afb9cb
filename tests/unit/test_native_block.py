"""A block's bytes, for files and for every revision of the protocol; and what is refused on the way back."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cdc.change import Column
from cdc.errors import TargetError
from cdc.target.native import NativeBlock, Reader, decode_block, decode_blocks, encode_block
from cdc.target.types import column_codec
from cdc.target.version import ServerVersion

SERVER = ServerVersion(26, 9)
CODECS = [
    column_codec(Column("id", "USMALLINT", nullable=False), SERVER),
    column_codec(Column("é", "VARCHAR"), SERVER),
]
ROWS = pa.record_batch({"id": pa.array([1, 515], pa.uint16()), "é": pa.array([None, "ab"])})
BLOCK = encode_block(CODECS, ROWS.columns, 2)

INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
SIZES = b"\x02\x02"
ID = b"\x02id\x06UInt16"
ID_DATA = b"\x01\x00\x03\x02"
TEXT = b"\x02\xc3\xa9\x10Nullable(String)"
TEXT_DATA = b"\x01\x00\x00\x02ab"


def test_a_file_has_no_block_information() -> None:
    assert b"".join(BLOCK.body(0)) == SIZES + ID + ID_DATA + TEXT + TEXT_DATA


@pytest.mark.parametrize("revision", [51903, 54453])
def test_a_connection_has_it_before_the_columns(revision: int) -> None:
    assert b"".join(BLOCK.body(revision)) == INFO + SIZES + ID + ID_DATA + TEXT + TEXT_DATA


def test_a_newer_connection_says_how_each_column_is_serialized() -> None:
    expected = INFO + SIZES + ID + b"\x00" + ID_DATA + TEXT + b"\x00" + TEXT_DATA
    assert b"".join(BLOCK.body(54454)) == expected


def test_an_empty_block_has_columns_and_no_data() -> None:
    empty = encode_block(CODECS, ROWS.slice(0, 0).columns, 0)
    assert b"".join(empty.body(0)) == b"\x02\x00" + ID + TEXT
    assert empty.nbytes == 0


def test_a_block_knows_how_many_bytes_of_data_it_holds() -> None:
    assert BLOCK.nbytes == len(ID_DATA) + len(TEXT_DATA)


@pytest.mark.parametrize("revision", [0, 51903, 54454, 54468])
def test_what_was_encoded_is_decoded_at_every_revision(revision: int) -> None:
    reader = Reader(b"".join(BLOCK.body(revision)))
    assert decode_block(reader, CODECS, revision).equals(ROWS)
    assert reader.ended


def test_an_answer_of_several_blocks_is_decoded_block_by_block() -> None:
    data = b"".join(BLOCK.body(0))
    assert list(decode_blocks(data * 3, CODECS)) == [ROWS] * 3
    assert list(decode_blocks(b"", CODECS)) == []


def test_a_type_that_is_spelled_otherwise_is_the_same_type() -> None:
    codec = column_codec(Column("s", "STRUCT(a INTEGER)", nullable=False), SERVER)
    rows = pa.record_batch({"s": pa.array([{"a": 1}], codec.arrow_type)})
    data = b"".join(encode_block([codec], rows.columns, 1).body(0))
    spelled = data.replace(b"\x18Tuple(a Nullable(Int32))", b"\x1aTuple(`a` Nullable(Int32))")
    assert spelled != data
    assert list(decode_blocks(spelled, [codec])) == [rows]


def refused(block: NativeBlock) -> str:
    with pytest.raises(TargetError) as raised:
        list(decode_blocks(b"".join(block.body(0)), CODECS))
    return str(raised.value)


def test_columns_that_were_not_asked_for_are_refused_by_name() -> None:
    assert "1 columns instead of 2" in refused(encode_block(CODECS[:1], ROWS.columns[:1], 2))
    turned = encode_block(CODECS[::-1], ROWS.columns[::-1], 2)
    assert "column 'é' of type Nullable(String) instead of 'id' of type UInt16" in refused(turned)


def test_a_sparse_column_is_refused_not_misread() -> None:
    data = b"".join(BLOCK.body(54454)).replace(ID + b"\x00", ID + b"\x01")
    with pytest.raises(TargetError, match="custom serialization"):
        decode_block(Reader(data), CODECS, 54454)


def test_an_answer_that_ends_early_is_refused_at_every_byte() -> None:
    data = b"".join(BLOCK.body(0))
    for end in range(1, len(data)):
        with pytest.raises(TargetError, match="early"):
            list(decode_blocks(data[:end], CODECS))
