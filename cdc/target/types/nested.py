"""How are lists, structs, maps and unions held, with NULL at every level?

As Array, Tuple and Map. None of them may be NULL in every release, so where a NULL is possible the value is
wrapped in an Array of at most one: NULL is `[]`, a value `v` is `[v]`. Nothing is lost, in any release, and
`x[1]` is the value, or an empty one for NULL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cdc.target.native.strings import decode_strings, encode_strings
from cdc.target.quote import quote_element
from cdc.target.types.codec import Buffer, Codec, Mask, Rejected, validity, values
from cdc.target.types.storage import bare_type, dressed
from cdc.target.types.text import Text

if TYPE_CHECKING:
    from cdc.target.native.reader import Reader


class AtMostOne(Codec):
    """`Array(T)` of none or one, for a type that cannot be `Nullable`."""

    def __init__(self, inner: Codec) -> None:
        self.inner = inner
        self.clickhouse_type = f"Array({inner.clickhouse_type})"
        self.arrow_type = inner.arrow_type
        rule = "NULL is [], a value v is [v]"
        self.note = f"{inner.note}; {rule}" if inner.note else rule

    def rejects(self, array: pa.Array) -> tuple[Rejected, ...]:
        present = np.flatnonzero(validity(array))
        return _lifted(self.inner.rejects(array.drop_null()), present, len(array))

    def prefix(self) -> bytes:
        return self.inner.prefix()

    def encode(self, array: pa.Array) -> list[Buffer]:
        ends = np.cumsum(validity(array), dtype=np.uint64)
        return [ends, *self.inner.encode(array.drop_null() if array.null_count else array)]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        ends = np.frombuffer(reader.take(rows * 8), np.int64)
        valid = np.diff(ends, prepend=0) == 1
        found = self.inner.decode(reader, int(ends[-1]) if rows else 0)
        if valid.all():
            return found
        return found.take(pa.array(np.maximum(ends - 1, 0), mask=~valid))


class Compound(Codec):
    """A type that ClickHouse does not allow inside Nullable."""

    def nullable(self) -> Codec:
        return AtMostOne(self)


class ArrayOf(Compound):
    """`Array(T)`: where each row's elements end, then all elements. DuckDB's LIST, or ARRAY of `length`."""

    def __init__(self, inner: Codec, length: int | None = None) -> None:
        self.inner = inner
        self.length = length
        self.clickhouse_type = f"Array({inner.clickhouse_type})"
        if length is None:
            self.arrow_type = pa.list_(pa.field("l", inner.arrow_type))
        else:
            self.arrow_type = pa.list_(pa.field("", inner.arrow_type), length)
        self.note = inner.note and f"elements: {inner.note}"

    def rejects(self, array: pa.Array) -> tuple[Rejected, ...]:
        return _lifted(self.inner.rejects(array.flatten()), _owners(_lengths(array)), len(array))

    def prefix(self) -> bytes:
        return self.inner.prefix()

    def encode(self, array: pa.Array) -> list[Buffer]:
        return [np.cumsum(_lengths(array), dtype=np.uint64), *self.inner.encode(array.flatten())]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        ends = np.frombuffer(reader.take(rows * 8), np.uint64)
        elements = self.inner.decode(reader, int(ends[-1]) if rows else 0)
        arrow_type = bare_type(self.arrow_type)
        if self.length is not None:
            return pa.FixedSizeListArray.from_arrays(elements, type=arrow_type)
        offsets = pa.array(np.concatenate((np.zeros(1, np.int32), ends.astype(np.int32))))
        return dressed(pa.ListArray.from_arrays(offsets, elements), arrow_type)


class TupleOf(Compound):
    """`Tuple(name T, …)`: the elements' columns in turn. DuckDB's STRUCT, and TUPLE without names."""

    def __init__(self, names: Sequence[str], elements: Sequence[Codec], *, named: bool) -> None:
        self.elements = tuple(elements)
        self.clickhouse_type = _tuple_type(names if named else (), elements)
        self.arrow_type = pa.struct(
            [(name, element.arrow_type) for name, element in zip(names, self.elements, strict=True)]
        )
        notes = (
            f"{name}: {element.note}"
            for name, element in zip(names, self.elements, strict=True)
            if element.note
        )
        self.note = "; ".join(notes)

    def rejects(self, array: pa.Array) -> tuple[Rejected, ...]:
        children = zip(self.elements, array.flatten(), strict=True)
        return tuple(rejected for element, child in children for rejected in element.rejects(child))

    def prefix(self) -> bytes:
        return b"".join(element.prefix() for element in self.elements)

    def encode(self, array: pa.Array) -> list[Buffer]:
        children = zip(self.elements, array.flatten(), strict=True)
        return [part for element, child in children for part in element.encode(child)]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        children = [element.decode(reader, rows) for element in self.elements]
        return pa.StructArray.from_arrays(children, fields=list(bare_type(self.arrow_type)))


class MapOf(ArrayOf):
    """`Map(K, V)`, or `Array(Tuple(key K, value V))`, which has the same bytes and takes any key."""

    def __init__(self, key: Codec, value: Codec, *, as_map: bool, named: bool) -> None:
        super().__init__(TupleOf(("key", "value"), (key, value), named=named))
        self.arrow_type = pa.map_(key.arrow_type, value.arrow_type)
        self.note = self.inner.note
        if as_map:
            self.clickhouse_type = f"Map({key.clickhouse_type}, {value.clickhouse_type})"


class UnionOf(Codec):
    """`Tuple(tag String, member T, …)`: the name of the member in use, and all members, the others NULL.

    Arrow's union has no NULL of its own, so DuckDB delivers a NULL union as its first member being NULL.
    """

    def __init__(self, names: Sequence[str], members: Sequence[Codec], *, named: bool) -> None:
        self.names = tuple(names)
        self.members = tuple(members)
        tag = "tag"
        while tag in self.names:
            tag += "_"
        self.clickhouse_type = _tuple_type((tag, *names) if named else (), (Text("VARCHAR"), *members))
        fields = [pa.field(name, member.arrow_type) for name, member in zip(names, members, strict=True)]
        self.arrow_type = pa.sparse_union(fields)
        self.note = f"{tag} names the member in use; a NULL union is its first member being NULL"

    def nullable(self) -> Codec:
        return self

    def rejects(self, array: pa.Array) -> tuple[Rejected, ...]:
        members = enumerate(self.members)
        return tuple(found for at, member in members for found in member.rejects(array.field(at)))

    def prefix(self) -> bytes:
        return b"".join(member.prefix() for member in self.members)

    def encode(self, array: pa.Array) -> list[Buffer]:
        codes = values(array, np.int8)  # `array.type_codes` forgets where a slice starts
        tags = pa.array(self.names).take(pa.array(codes))
        parts = [part for at, member in enumerate(self.members) for part in member.encode(array.field(at))]
        return [encode_strings(tags), *parts]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        tags = decode_strings(reader, rows, pa.string())
        codes = pc.index_in(tags, pa.array(self.names)).cast(pa.int8())
        members = [member.decode(reader, rows) for member in self.members]
        return pa.UnionArray.from_sparse(codes, members, list(self.names))


def _tuple_type(names: Sequence[str], elements: Sequence[Codec]) -> str:
    """The Tuple of `elements`, named if there are `names`."""
    types = [element.clickhouse_type for element in elements]
    if names:
        types = [f"{quote_element(name)} {kind}" for name, kind in zip(names, types, strict=True)]
    return f"Tuple({', '.join(types)})"


def _lengths(array: pa.Array) -> npt.NDArray[Any]:
    """How many elements each row has; none where it is NULL."""
    lengths: npt.NDArray[Any] = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    return lengths


def _owners(lengths: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The row that each element belongs to."""
    return np.repeat(np.arange(len(lengths)), lengths)


def _lifted(found: tuple[Rejected, ...], owners: npt.NDArray[np.int64], rows: int) -> tuple[Rejected, ...]:
    """What was found in elements, as found in the rows that own them."""
    lifted = []
    for rejected in found:
        mask: Mask = np.zeros(rows, np.bool_)
        mask[owners[rejected.rows]] = True
        lifted.append(Rejected(mask, rejected.reason))
    return tuple(lifted)
