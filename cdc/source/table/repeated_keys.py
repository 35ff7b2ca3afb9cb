"""Has each key one row? And if it has several, which of them is the one that the target shows?

A primary key, or a unique constraint over columns that are never NULL, says so by itself. Where none does,
the configured key is counted once when a reader begins and at each comparison; and where the log tells of a
deletion, the rows of its key that are left are looked up, for a deletion of one takes no other with it.

The target has one row for each key: that with the greatest value of the version column if there is one, of
these the one with the greatest watermark, of these the last by row id.
"""

from __future__ import annotations

import pyarrow as pa

from cdc.change import Column, TableId, TablePlan
from cdc.source.events import SourceEvents
from cdc.source.file.snapshot import Snapshot, Snapshots
from cdc.source.quote import by_bytes, identifier
from cdc.source.table.ranges import Selection, order

_KEYS_AT_ONCE = 2_000_000
"""Keys that are counted in one pass: some 150 MB. A longer table takes several passes over its key."""
_WANTED = "cdc_wanted_keys"


class RepeatedKeys:
    """The tables that are known to have several rows of one key. Safe to use from several threads."""

    def __init__(self, snapshots: Snapshots, events: SourceEvents) -> None:
        self._snapshots = snapshots
        self._events = events
        self._examples: dict[TableId, str | None] = {}

    def __repr__(self) -> str:
        return f"RepeatedKeys({[str(table) for table, example in self._examples.items() if example]})"

    def known(self, plan: TablePlan) -> bool:
        """Whether some key of the table is known to have several rows."""
        return self._examples.get(plan.table) is not None

    def count(self, plan: TablePlan) -> None:
        """Find out now, and tell. Nothing is asked of a table whose key is unique by a constraint.

        Raises:
            SourceError: the table cannot be read.
        """
        if not plan.unique_key:
            self._note(plan.table, self._snapshots.run(lambda snapshot: _first_repeated(snapshot, plan)))

    def noticed(self, plan: TablePlan, key: tuple[str, ...]) -> None:
        """Several rows of this key were met."""
        values = ", ".join(f"{name} = {value}" for name, value in zip(plan.key, key, strict=True))
        self._note(plan.table, f"{values} has several rows")

    def _note(self, table: TableId, example: str | None) -> None:
        before = self._examples.get(table)
        self._examples[table] = example
        if example is not None and before is None:
            self._events.key_repeated(table, example)
        elif example is None and before is not None:
            self._events.key_unique(table)


def shown(
    snapshot: Snapshot, plan: TablePlan, keys: pa.Table, selected: str, selection: Selection, rows: str
) -> pa.Table:
    """Of each of `keys`, the row that the target shows: what `selected` selects, and in the column `rows` how
    many rows the key has. In order of watermark and key.

    Raises:
        SnapshotSuperseded, SourceError: the table cannot be read.
    """
    same = " AND ".join(
        f"here.{by_bytes(column)} IS NOT DISTINCT FROM wanted.{identifier(column.name)}"
        for column in _key_columns(plan)
    )
    with snapshot.translated("read"):
        snapshot.cursor.register(_WANTED, keys)
    found = snapshot.stream(
        f"SELECT {selected}, count(*) OVER (PARTITION BY {_keys(plan)}) AS {rows} "
        f"FROM {snapshot.relation(plan.table)} AS here SEMI JOIN temp.{_WANTED} AS wanted ON {same} "
        f"WHERE {selection.filter()} QUALIFY row_number() OVER ({_shown_first(plan)}) = 1 "
        f"ORDER BY {order(plan)}",
        selection.parameters,
    )
    return found.reader().read_all()


def hidden(plan: TablePlan, relation: str) -> str:
    """The SELECT of the row ids that the target does not show, for another row of the same key."""
    keys, within = _keys(plan), Selection(plan).filter()
    named = [identifier(f"key_{number}") for number in range(len(plan.key))]
    same = " AND ".join(
        f"here.{by_bytes(column)} IS NOT DISTINCT FROM repeated.{name}"
        for column, name in zip(_key_columns(plan), named, strict=True)
    )
    repeated = f"SELECT {keys} FROM {relation} WHERE {within} GROUP BY {keys} HAVING count(*) > 1"
    return (
        f"SELECT here.rowid FROM {relation} AS here"
        f" SEMI JOIN ({repeated}) AS repeated({', '.join(named)}) ON {same}"
        f" WHERE {within} QUALIFY row_number() OVER ({_shown_first(plan)}) > 1"
    )


def _first_repeated(snapshot: Snapshot, plan: TablePlan) -> str | None:
    """A key that has several rows, for a person."""
    relation, keys = snapshot.relation(plan.table), _keys(plan)
    texts = ", ".join(f"CAST({name} AS VARCHAR)" for name in map(by_bytes, _key_columns(plan)))
    passes = 1 + snapshot.single(f"SELECT count(*) FROM {relation}") // _KEYS_AT_ONCE
    for turn in range(passes):
        part = "" if passes == 1 else f" AND hash({keys}) % {passes} = {turn}"
        found = snapshot.stream(
            f"SELECT count(*), {texts} FROM {relation} WHERE {Selection(plan).filter()}{part}"
            f" GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"
        )
        for batch in found.batches:
            for rows, *values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                key = ", ".join(f"{name} = {value}" for name, value in zip(plan.key, values, strict=True))
                return f"{key} has {rows} rows"
    return None


def _key_columns(plan: TablePlan) -> list[Column]:
    columns = {column.name: column for column in plan.columns}
    return [columns[name] for name in plan.key]


def _keys(plan: TablePlan) -> str:
    return ", ".join(map(by_bytes, _key_columns(plan)))


def _shown_first(plan: TablePlan) -> str:
    """The window of each key's rows, the one that the target shows first."""
    greatest = [identifier(name) for name in (plan.version, plan.watermark.name) if name is not None]
    ranks = ", ".join(f"{name} DESC NULLS LAST" for name in (*greatest, "here.rowid"))
    return f"PARTITION BY {_keys(plan)} ORDER BY {ranks}"
