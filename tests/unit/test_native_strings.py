"""Strings in Native blocks: lengths as varints and bytes, whatever the lengths and the Arrow layout [F7]."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.errors import TargetError
from cdc.target.native.block import varint
from cdc.target.native.reader import Reader
from cdc.target.native.strings import decode_strings, encode_strings

LENGTHS = st.one_of(st.integers(0, 300), st.sampled_from([127, 128, 16_383, 16_384, 16_385]))


def plainly(values: list[bytes | None]) -> bytes:
    """The same, one value at a time."""
    return b"".join(varint(len(value or b"")) + (value or b"") for value in values)


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.binary(max_size=300)), max_size=40), st.integers(0, 5))
def test_binaries_are_length_and_bytes_from_any_slice(values: list[bytes | None], skip: int) -> None:
    array = pa.array(values, pa.binary()).slice(skip)
    assert encode_strings(array).tobytes() == plainly(values[skip:])


@settings(deadline=None)
@given(st.lists(LENGTHS, max_size=12))
def test_long_and_short_strings_stand_side_by_side(lengths: list[int]) -> None:
    values = [bytes([65 + at % 26]) * length for at, length in enumerate(lengths)]
    data = encode_strings(pa.array(values, pa.binary())).tobytes()
    assert data == plainly(list(values))
    assert decode_strings(Reader(data), len(values), pa.binary()).to_pylist() == values


@settings(deadline=None)
@given(st.lists(st.text(max_size=40), max_size=40))
def test_text_comes_back_as_it_was(values: list[str]) -> None:
    data = encode_strings(pa.array(values, pa.string())).tobytes()
    reader = Reader(data)
    assert decode_strings(reader, len(values), pa.string()).to_pylist() == values
    assert reader.ended


def test_an_answer_that_ends_inside_a_string_is_an_error() -> None:
    with pytest.raises(TargetError, match="ends 2 bytes early"):
        decode_strings(Reader(b"\x03a"), 1, pa.string())


def test_an_answer_that_ends_before_a_length_is_an_error() -> None:
    with pytest.raises(TargetError, match="early"):
        decode_strings(Reader(b"\x01a"), 2, pa.string())
