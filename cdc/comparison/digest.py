"""Are two rows the same? Each gets a 64-bit number from its values, computed alike whoever delivered them.

The numbers are of values, not of Arrow types: an int32 and an int64 of the same value agree. Floats are taken
by their bits, so that -0.0 differs from 0.0, but every NaN is the same; NULL differs from every value, also
within lists, structs, maps and unions; text and blobs of the same bytes agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cdc.source.file.confined import confined
from cdc.target.types.storage import bare

Hashes = npt.NDArray[np.uint64]

_NULL = np.uint64(0xA5B35705F3C1D2E9)
"""Stands for NULL: an arbitrary number, which a value of 64 bits meets with a chance of 2**-64."""
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
"""Constants of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""


class RowHasher:
    """Computes the numbers; owns a small DuckDB, whose hash of strings it uses. For one thread."""

    def __init__(self) -> None:
        self._duckdb = confined({"threads": 1})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._duckdb.close()

    def values(self, array: pa.Array) -> Hashes:
        """A number for each value of `array`, which may be of any Arrow type that a table's column has."""
        array = _plain(array)
        kind = array.type
        if len(array) == 0:
            return np.zeros(0, np.uint64)
        if pa.types.is_null(kind):
            return np.full(len(array), _NULL)
        if pa.types.is_union(kind):
            return self._union(array)
        if pa.types.is_dictionary(kind):
            labels = np.append(self.values(array.dictionary), _NULL)  # one more, for it may have none
            found = labels[array.indices.fill_null(0).to_numpy(zero_copy_only=False)]
        elif pa.types.is_struct(kind):
            found = fold([self.values(child) for child in array.flatten()], len(array))
        elif _is_list(kind):
            found = self._list(array)
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            found = self._bytes(array)
        else:
            found = _fixed(array)
        return found if not array.null_count else np.where(_valid(array), found, _NULL)

    def _bytes(self, array: pa.Array) -> Hashes:
        hashed = self._duckdb.from_arrow(pa.table({"v": array})).project("hash(v) AS h")
        found: Hashes = np.ma.getdata(hashed.fetchnumpy()["h"])
        return found

    def _list(self, array: pa.Array) -> Hashes:
        """The sum of the elements' numbers, each mixed with its place, mixed with how many there are."""
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        ends = np.cumsum(lengths)
        places = np.arange(ends[-1], dtype=np.int64) - np.repeat(ends - lengths, lengths)
        elements = mix(self.values(array.flatten()) + _STEP * (places.astype(np.uint64) + np.uint64(1)))
        sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(elements, dtype=np.uint64)))
        return mix((sums[ends] - sums[ends - lengths]) + _STEP * lengths.astype(np.uint64))

    def _union(self, array: pa.Array) -> Hashes:
        """Of the member in use, and its place. A union has no NULL of its own."""
        buffer = np.frombuffer(array.buffers()[1], np.int8)  # `type_codes` forgets where a slice starts
        codes = buffer[array.offset : array.offset + len(array)]
        members = np.stack([self.values(array.field(at)) for at in range(array.type.num_fields)])
        chosen = members[codes, np.arange(len(array))]
        return mix(chosen + _STEP * (codes.astype(np.uint64) + np.uint64(1)))


def fold(columns: Sequence[Hashes], rows: int) -> Hashes:
    """One number for each row, of its values' numbers in order."""
    found = np.full(rows, _STEP)
    for column in columns:
        found = mix(found * _MIX_2 + column)
    return found


def mix(numbers: Hashes) -> Hashes:
    """SplitMix64's finalizer: every bit of the input decides every bit of the output."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _MIX_1
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _MIX_2
    return numbers ^ (numbers >> np.uint64(31))


def _plain(array: pa.Array) -> pa.Array:
    """`array` in one of the few forms that are told apart here."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return array
    array = bare(array)
    kind = array.type
    if pa.types.is_string(kind):
        return array.view(pa.binary())
    if pa.types.is_large_string(kind):
        return array.view(pa.large_binary())
    if pa.types.is_boolean(kind):
        return array.cast(pa.uint8())
    if pa.types.is_decimal(kind) and kind.bit_width < 128:
        return array.cast(pa.decimal128(kind.precision, kind.scale))
    return array


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def _valid(array: pa.Array) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return found


def _fixed(array: pa.Array) -> Hashes:
    """Of values of a fixed width, whose bits are the value."""
    kind = array.type
    width = kind.bit_width // 8
    if pa.types.is_floating(kind):
        return _floats(array)
    raw = _raw(array, width)
    if width in (1, 2, 4, 8):
        unsigned = pa.types.is_unsigned_integer(kind)
        numbers = raw.view(np.dtype(f"<{'u' if unsigned else 'i'}{width}")).astype(np.int64, copy=False)
        return numbers.view(np.uint64) if not unsigned else numbers.astype(np.uint64)
    words = -(-width // 8)
    padded = np.zeros((len(array), words * 8), np.uint8)
    padded[:, :width] = raw.reshape(len(array), width)
    return fold(list(padded.view(np.uint64).T), len(array))


def _floats(array: pa.Array) -> Hashes:
    values = array.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64)
    bits = values.view(np.uint64)
    unknown = np.isnan(values)
    return np.where(unknown, np.uint64(0x7FF8000000000000), bits) if unknown.any() else bits


def _raw(array: pa.Array, width: int) -> npt.NDArray[Any]:
    buffer = array.buffers()[1]
    start = array.offset * width
    return np.frombuffer(buffer, np.uint8)[start : start + len(array) * width]
