"""What becomes of held rows that were read by another plan, of other columns?

When a table's columns change, the table is read again from its beginning. A held row that is met then is
forgotten for its newer state; one that is not, for it is gone from the source, becomes a failed row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pyarrow as pa

from cdc.change import FailedRow, TablePlan
from cdc.packing import pack_rows
from cdc.replicator.identity import Key, keys
from cdc.stored import HeldRows

VERSION = "__cdc_version"
"""The last column of held rows as they are stored, or a free name like it: found by its place."""
_PREFIX = "\x1f"
"""Of the groups they are stored by meanwhile, so that rows newly parked in the same group are told apart."""
_REASON = "it waited for its group, and its columns are no longer those replicated"


def plain(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Held rows without their versions."""
    return rows.select(list(range(rows.num_columns - 1)))


def versions_of(rows: pa.RecordBatch) -> pa.UInt64Array:
    return rows.column(rows.num_columns - 1)


class HeldByEarlierSchema:
    """The outdated held rows of one table. For one thread."""

    def __init__(self, plan: TablePlan, held: Iterable[HeldRows]) -> None:
        self._plan = plan
        self._stored = list(held)
        self._rows = {key: row for each in self._stored for key, row in self._failed(each)}

    def __bool__(self) -> bool:
        return bool(self._stored)

    def met(self, found: Iterable[Key]) -> None:
        """Rows with these keys were read anew."""
        for key in found:
            self._rows.pop(key, None)

    def set_apart(self) -> tuple[list[HeldRows], set[str]]:
        """The rows under other groups, to be parked, and the groups to be released for it."""
        moved = [each for each in self._stored if not each.group.startswith(_PREFIX)]
        parked = [replace(each, group=_PREFIX + each.group) for each in moved]
        self._stored = [each for each in self._stored if each not in moved] + parked
        return parked, {each.group for each in moved}

    def give_up(self) -> tuple[tuple[FailedRow, ...], set[str]]:
        """The rows that were not met, and the groups to be released."""
        rows, groups = tuple(self._rows.values()), {each.group for each in self._stored}
        self._rows, self._stored = {}, []
        return rows, groups

    def _failed(self, held: HeldRows) -> Iterator[tuple[Key, FailedRow]]:
        (rows,) = pa.ipc.open_stream(held.payload)
        versions, rows = versions_of(rows).to_pylist(), plain(rows)
        names = tuple(name for name in self._plan.key if name in rows.schema.names)
        for index, key in enumerate(keys(rows, names)):
            known_by = tuple(text or "" for text in key)
            payload = pack_rows(rows.slice(index, 1))
            if None in key:  # nothing tells it from others: it is never met
                key = ("", held.group, str(held.since), str(index), str(versions[index]))
            yield key, FailedRow(known_by, None, _REASON, payload, int(versions[index]))
