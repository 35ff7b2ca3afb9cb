"""What a reset of marks would change, and how it is done while no replicator is in the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cdc.change import Mark, TableId
from cdc.clock import Clock
from cdc.errors import LeaseHeld, StateError
from cdc.state.database import StoreDamaged
from cdc.state.lease import Lease
from cdc.state.store import Store, TableRecord, open_store, set_aside
from cdc.watermark.columns import check_mark, columns_of


@dataclass(frozen=True, slots=True)
class Change:
    """A mark before and after; `after` None: no mark, every row is sent again."""

    record: TableRecord
    after: Mark | None

    def __str__(self) -> str:
        before = "no mark" if self.record.mark is None else _shown(self.record, self.record.mark)
        return f"{self.record.table}: {before} → {self._effect()}"

    def _effect(self) -> str:
        if self.after is None:
            return "no mark: every row is sent again"
        shown = _shown(self.record, self.after)
        columns, before = columns_of(self.record), self.record.mark
        if columns is not None and (before is None or columns.order(self.after) > columns.order(before)):
            return f"{shown}: rows before it that are not delivered yet are sent only once it is compared"
        return f"{shown}: rows from there on are sent again"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuilding did: the files kept aside, and the failed rows taken over from them."""

    aside: tuple[Path, ...]
    failed_rows: int


def plan_reset(
    store: Store, table: TableId | None, *, to: str | None = None, source: str | None = None
) -> list[Change]:
    """The changes that moving the marks of `table` (None: of all tables) to the watermark `to` would make.

    `source` is the beginning of a source's identity; it is needed only where the store knows several.

    Raises:
        StateError: there is no such table, several sources have it, or `to` is not of its watermark's type.
    """
    records = [record for record in store.tables(table) if record.source.startswith(source or "")]
    subject = "every table" if table is None else str(table)
    if not records:
        raise StateError(
            "reset the mark of", subject, "the store has no such table", "See 'cdc watermark list'"
        )
    sources = sorted({record.source for record in records})
    if len(sources) > 1:
        raise StateError(
            "reset the mark of",
            subject,
            f"the store knows it from several sources: {', '.join(sources)}",
            "Name one with --source",
        )
    return [Change(record, None if to is None else check_mark(record, Mark(to, ()))) for record in records]


@contextmanager
def no_replicator(directory: Path, source: str, *, force: bool = False) -> Iterator[None]:
    """Keep replicators of `source` out meanwhile; with `force`, let one that runs be.

    Raises:
        LeaseHeld: one runs, and `force` was not said.
    """
    if force:
        yield
        return
    lease = Lease(directory, source)
    try:
        lease.acquire()
    except LeaseHeld as error:
        raise LeaseHeld(
            "change the marks of the source",
            source,
            error.problem,
            "Stop that replicator, or add --force: it then goes on from the new mark by itself",
        ) from None
    try:
        yield
    finally:
        lease.release()


def apply_reset(store: Store, changes: list[Change]) -> None:
    """Make the changes."""
    for change in changes:
        reset_mark(store, change.record.source, change.record.table, change.after)


def reset_mark(store: Store, source: str, table: TableId, mark: Mark | None) -> TableRecord:
    """Move a mark anywhere, or clear it; returns what there was. A running replicator loads it again.

    Raises:
        StateError: the table is not in the store, or the mark is not of its watermark's type.
    """
    before = next((record for record in store.tables(table) if record.source == source), None)
    if before is None:
        raise StateError(
            "find the mark of", table, f"source {source} has no such table", "See 'cdc watermark list'"
        )
    store.rebuild(source, {table: None if mark is None else check_mark(before, mark)})
    return before


def rebuild(
    directory: Path,
    source: str,
    marks: Mapping[TableId, Mark | None],
    *,
    failed_table: str = "failed_syncs",
    clock: Clock | None = None,
) -> Rebuilt:
    """Set the marks of `source` to those found in the target; a store is made where none can be used.

    None is no mark: every row is sent again.

    A damaged store is kept aside, and the failed rows that can still be read in it are taken over.

    Raises:
        LeaseHeld: a replicator runs.
        StateError: the store cannot be written.
    """
    with no_replicator(directory, source):
        aside: list[Path] = []
        try:
            store = open_store(directory, failed_table=failed_table)
        except StoreDamaged:
            aside = set_aside(directory, clock)
            store = open_store(directory, failed_table=failed_table)
        with store:
            salvaged = sum(store.salvage(path) for path in aside[-1:])
            store.rebuild(source, marks)
    return Rebuilt(tuple(aside), salvaged)


def _shown(record: TableRecord, mark: Mark) -> str:
    columns = columns_of(record)
    names = ("watermark",) if columns is None else columns.names
    return ", ".join(
        f"{name} {value}" for name, value in zip(names, (mark.watermark, *mark.key), strict=False)
    )
