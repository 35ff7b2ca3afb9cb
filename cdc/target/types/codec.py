"""What does every type's codec promise, and what do they share? Arrow in, Native bytes out, and back.

The bytes are those of ClickHouse's Native format: a column's state prefix (only LowCardinality has one), then
its data (https://clickhouse.com/docs/interfaces/formats/Native).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cdc.errors import TargetError
from cdc.target.types.storage import bare, bare_type, dressed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdc.change import Column
    from cdc.target.native.reader import Reader

Buffer = bytes | memoryview | npt.NDArray[Any]
"""Contiguous bytes; a NumPy array stands for its own memory, little-endian."""

Octets = bytes | memoryview
"""Contiguous bytes; `len` counts them."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Rows whose value the target's type cannot hold, and the class of value they share."""

    rows: Mask
    reason: str


class Codec(ABC):
    """Encodes and decodes the values of one type.

    `encode` presumes what `rejects` found to be absent; it does not check again.
    """

    clickhouse_type: str
    arrow_type: pa.DataType
    """What the source's connection delivers. Arrays passed in and out are bare (see `storage.py`)."""
    note: str = ""
    """How values are kept, where ClickHouse has no such type; empty when it has."""

    def rejects(self, array: pa.Array) -> tuple[Rejected, ...]:  # noqa: ARG002
        """The rows of `array` that cannot be encoded; none for most types. NULL is never one."""
        return ()

    def prefix(self) -> bytes:
        """The state that stands before the column's data."""
        return b""

    def nullable(self) -> Codec:
        """The codec of the same type where NULL is possible."""
        return Nullable(self)

    @abstractmethod
    def encode(self, array: pa.Array) -> list[Buffer]:
        """The data of `array`. A NULL becomes any valid value of the type: the mask is the wrapper's."""

    @abstractmethod
    def decode(self, reader: Reader, rows: int) -> pa.Array:
        """The next `rows` values, none of them NULL."""

    def with_nulls(self, array: pa.Array, valid: Mask) -> pa.Array:
        """`array` as decoded, with NULL where `valid` is false."""
        return pa.Array.from_buffers(array.type, len(array), [packed(valid), *array.buffers()[1:]])


class Nullable(Codec):
    """`Nullable(T)`: one byte a row, 1 for NULL, then the values."""

    def __init__(self, inner: Codec) -> None:
        self.inner = inner
        self.clickhouse_type = f"Nullable({inner.clickhouse_type})"
        self.arrow_type = inner.arrow_type
        self.note = inner.note

    def rejects(self, array: pa.Array) -> tuple[Rejected, ...]:
        return self.inner.rejects(array)

    def prefix(self) -> bytes:
        return self.inner.prefix()

    def encode(self, array: pa.Array) -> list[Buffer]:
        if not array.null_count:
            return [np.zeros(len(array), np.uint8), *self.inner.encode(array)]
        return [(~validity(array)).view(np.uint8), *self.inner.encode(array)]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        valid = np.frombuffer(reader.take(rows), np.uint8) == 0
        array = self.inner.decode(reader, rows)
        return array if valid.all() else self.inner.with_nulls(array, valid)


@dataclass(frozen=True, slots=True)
class ColumnCodec:
    """The codec of one column, which knows whether the column may be NULL."""

    column: Column
    codec: Codec

    @property
    def name(self) -> str:
        return self.column.name

    @property
    def clickhouse_type(self) -> str:
        """As ClickHouse spells it: `Nullable(Decimal(18, 6))`."""
        return self.codec.clickhouse_type

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of the arrays that `decode` returns."""
        return self.codec.arrow_type

    @property
    def note(self) -> str:
        """How values are kept, where ClickHouse has no such type; empty when it has."""
        return self.codec.note

    def rejects(self, array: pa.Array) -> tuple[Rejected, ...]:
        """Which rows cannot be encoded, and why; empty on the common path."""
        found = self.codec.rejects(self._bare(array))
        if self.column.nullable or not array.null_count:
            return found
        return (*found, Rejected(~validity(array), "NULL in a column that is NOT NULL"))

    def encode(self, array: pa.Array) -> list[Octets]:
        """The column's Native bytes (state prefix, then data). `rejects(array)` must be empty."""
        prefix = self.codec.prefix()
        data = [_octets(part) for part in self.codec.encode(self._bare(array))]
        return [prefix, *data] if prefix else data

    def _bare(self, array: pa.Array) -> pa.Array:
        """`array` exactly as the codec takes it: other bytes than it expects would become wrong values.

        Raises:
            TargetError: if `array` is of a type that does not convert without loss.
        """
        array, expected = bare(array), bare_type(self.arrow_type)
        if array.type == expected:
            return array
        try:
            return array.cast(expected)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise TargetError(
                "encode",
                f"column {self.name!r} of type {self.column.type}",
                f"its values came as {array.type}, not as {expected}",
                "Check that the table was not altered since the start, and restart",
            ) from error

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        """The inverse of `encode`, as an array of `arrow_type`."""
        if rows == 0:
            return pa.nulls(0, self.arrow_type)
        reader.take(len(self.codec.prefix()))
        return dressed(self.codec.decode(reader, rows), self.arrow_type)


def _octets(part: Buffer) -> Octets:
    """`part` as bytes, without a copy."""
    return part.view(np.uint8).data if isinstance(part, np.ndarray) else part


def refuse(column: str, duckdb_type: str, problem: str, remedy: str) -> TargetError:
    """The error for a column that no ClickHouse type can hold; its meaning is STOP."""
    return TargetError("replicate", f"column {column!r} of type {duckdb_type}", problem, remedy)


def validity(array: pa.Array) -> Mask:
    """True where `array` is not NULL; a new, contiguous mask."""
    bits = array.buffers()[0]
    if bits is None:
        return np.ones(len(array), np.bool_)
    octets = np.frombuffer(bits, np.uint8)[array.offset // 8 : (array.offset + len(array) + 7) // 8]
    start = array.offset % 8
    return np.unpackbits(octets, bitorder="little")[start : start + len(array)].view(np.bool_)


def values(array: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The fixed-width values of `array` as a view; what stands where it is NULL is unspecified."""
    dtype = np.dtype(dtype)
    if not len(array):  # its buffer may be missing, or of any size
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)


def settled(array: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Like `values`, with zero where `array` is NULL, so that equal arrays give equal bytes."""
    found = values(array, dtype)
    if not array.null_count:
        return found
    return np.where(validity(array), found, np.zeros((), dtype))


def any_row(masks: Iterable[Mask]) -> Mask:
    """True where any of `masks` is; there is at least one."""
    found: Mask = np.logical_or.reduce(list(masks))
    return found


def packed(valid: Mask) -> pa.Buffer:
    """`valid` as Arrow's validity bitmap."""
    return pa.py_buffer(np.packbits(valid, bitorder="little"))
