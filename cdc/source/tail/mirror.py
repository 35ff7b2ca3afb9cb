"""What do touched rows become by a round, without a statement of DuckDB? They are taken from arrays.

The rows of rounds that were decoded directly are kept here, in Arrow, as they now stand. DuckDB's table
touched_rows gets them before a round that it is to decode, and is asked for rows that it holds; see
`cdc.source.tail.touched`. As there, what lies under a NULL is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from cdc.source.format.decode import LeafPath, RowIds, Updated
from cdc.source.format.layouts import Flags, NotDecodable

Arrays = Sequence[pa.Array]
_MOST_PARTS = 64
"""Of a mirror: one for each round, until they are made one."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows, column by column."""

    lying: Arrays
    """The value that lies there, whether or not it is NULL; NULL where it is not known."""
    nulls: Sequence[Flags | None]
    """Which are NULL; None: those of which no value lies there."""

    @classmethod
    def of(cls, columns: Arrays) -> Rows:
        """Rows as they are shown."""
        return cls(columns, [None] * len(columns))

    def __len__(self) -> int:
        return len(self.lying[0])

    def shown(self) -> list[pa.Array]:
        """The columns as DuckDB shows them."""
        everything = np.arange(len(self))
        return [
            values if null is None else values.take(pa.array(everything, mask=null))
            for values, null in zip(self.lying, self.nulls, strict=True)
        ]

    def take(self, places: RowIds) -> Rows:
        """The rows at these places."""
        chosen = pa.array(places)
        return Rows(
            [values.take(chosen) for values in self.lying],
            [None if null is None else null[places] for null in self.nulls],
        )


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of all `parts`, one behind the other."""
    if len(parts) == 1:
        return parts[0]
    lying: list[pa.Array] = []
    nulls: list[Flags | None] = []
    for column in range(len(parts[0].lying)):
        lying.append(pa.concat_arrays([part.lying[column] for part in parts]))
        flags = [part.nulls[column] for part in parts]
        if all(each is None for each in flags):
            nulls.append(None)
        else:
            nulls.append(np.concatenate([_is_null(part, column) for part in parts]))
    return Rows(lying, nulls)


def updated(rows: Rows, row_ids: RowIds, updates: Mapping[LeafPath, Updated]) -> Rows:
    """What `rows`, which have these ascending `row_ids`, are after the `updates`, all of which are of them.

    Raises:
        NotDecodable: what was NULL has a value now that the log does not say.
    """
    lying, nulls = list(rows.lying), list(rows.nulls)
    for path, new in updates.items():
        if len(path) == 1:  # of several values of one row the last counts
            places = np.arange(len(rows))
            places[np.searchsorted(row_ids, new.row_ids)] = len(rows) + np.arange(len(new.row_ids))
            lying[path[0]] = pa.concat_arrays([rows.lying[path[0]], new.values]).take(pa.array(places))
            if (path[0], 0) not in updates and rows.lying[path[0]].null_count:
                nulls[path[0]] = _is_null(rows, path[0])
    for path, new in updates.items():
        if len(path) == 2:
            null = _is_null(rows, path[0]).copy()
            null[np.searchsorted(row_ids, new.row_ids)] = _null_flags(new.values)
            if (~null & _null_flags(lying[path[0]])).any():
                raise NotDecodable("the log does not say which value of a row is NULL no more")
            nulls[path[0]] = null
    return Rows(lying, nulls)


def without(rows: Arrays, others: Arrays, key: Sequence[int]) -> list[pa.Array]:
    """Those of `rows` whose key is none of the `others`'; `key` are the numbers of its columns."""
    if not len(rows[0]) or not len(others[0]):
        return list(rows)
    known = set(zip(*(_comparable(others[column]) for column in key), strict=True))
    left = [each not in known for each in zip(*(_comparable(rows[column]) for column in key), strict=True)]
    return [values.filter(pa.array(left)) for values in rows]


def _comparable(values: pa.Array) -> list[Any]:
    """Objects that are equal where the values are the same; NULL is None."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.indices
    if pa.types.is_string(values.type) or pa.types.is_binary(values.type):
        found: list[Any] = values.to_pylist()
        return found
    numbers: list[Any] = values.view(pa.binary(values.type.bit_width // 8)).to_pylist()
    return numbers


def _is_null(rows: Rows, column: int) -> Flags:
    null = rows.nulls[column]
    return _null_flags(rows.lying[column]) if null is None else null


def _null_flags(values: pa.Array) -> Flags:
    flags: Flags = values.is_null().to_numpy(zero_copy_only=False)
    return flags


class Mirror:
    """Touched rows as they now stand, by row id."""

    def __init__(self) -> None:
        self._parts: list[Rows] = []
        self._where: dict[int, tuple[int, int]] = {}
        self._gone: set[int] = set()

    def __len__(self) -> int:
        return len(self._where) + len(self._gone)

    @property
    def row_ids(self) -> RowIds:
        """Those of all rows that were put here, ascending; also of those that are gone."""
        return np.array(sorted(self._where.keys() | self._gone), dtype=np.int64)

    def has(self, row_ids: RowIds) -> Flags:
        """Which of these rows are here, or were."""
        where, gone = self._where, self._gone
        return np.array([row_id in where or row_id in gone for row_id in row_ids.tolist()], dtype=np.bool_)

    def put(self, row_ids: RowIds, rows: Rows, gone: RowIds) -> None:
        """The rows that have these `row_ids` are now `rows`; those `gone` are no more."""
        number = len(self._parts)
        self._parts.append(rows)
        for place, row_id in enumerate(row_ids.tolist()):
            self._where[row_id] = number, place
        for row_id in gone.tolist():
            self._where.pop(row_id, None)
            self._gone.add(row_id)
        if len(self._parts) > _MOST_PARTS:
            self._compact()

    def rows(self, row_ids: RowIds) -> Rows:
        """The rows that have these `row_ids`.

        Raises:
            NotDecodable: one of them is gone.
        """
        try:
            found = [self._where[row_id] for row_id in row_ids.tolist()]
        except KeyError as error:
            raise NotDecodable(f"row {error} is changed and was deleted before") from error
        numbers = sorted({number for number, _ in found})
        begins, at = {}, 0
        for number in numbers:
            begins[number] = at
            at += len(self._parts[number])
        places = np.array([begins[number] + place for number, place in found], dtype=np.int64)
        return joined([self._parts[number] for number in numbers]).take(places)

    def live(self) -> tuple[RowIds, Rows] | None:
        """All rows that are not gone; None where there are none."""
        if not self._where:
            return None
        row_ids = np.array(sorted(self._where), dtype=np.int64)
        return row_ids, self.rows(row_ids)

    def clear(self) -> None:
        self._parts, self._where, self._gone = [], {}, set()

    def _compact(self) -> None:
        """Make one part of all: a part for each round would be many."""
        live = self.live()
        gone = self._gone
        self.clear()
        self._gone = gone
        if live is not None:
            row_ids, rows = live
            self._parts = [rows]
            self._where = {row_id: (0, place) for place, row_id in enumerate(row_ids.tolist())}
