"""How do pages of a served table become batches, and what is remembered of their rows?

A row is handed out in each state once, as far as that is remembered: by its hashes in the open area, and
since the last look back before it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa

from cdc.change import Batch, Column, Mark, TablePlan
from cdc.clock import Clock
from cdc.duckdb_types import mark_type
from cdc.errors import SourceError
from cdc.source.file.session import Session
from cdc.source.quote import identifier, literal
from cdc.source.served.known import Known
from cdc.source.served.pages import Area, Pages
from cdc.source.served.view import PageView, viewed
from cdc.source.served.wake import Ticks, Wake
from cdc.source.table.marking import Marking
from cdc.source.table.snapshot_reader import SnapshotReader
from cdc.source.table.view import ReadState

_HASHES_AT_ONCE = 1_000

Reading = Generator[Batch, None, ReadState]


class Handing:
    """Hands out the rows of one table's pages. For one thread."""

    def __init__(
        self,
        plan: TablePlan,
        pages: Pages,
        inner: SnapshotReader,
        session: Session,
        ticks: Ticks,
        wake: Wake,
        clock: Clock,
        known: Known,
        max_skew_seconds: float,
    ) -> None:
        """`inner` makes batches of rows; it knows no filter, for the server has applied that."""
        self._plan = plan
        self._pages = pages
        self._inner = inner
        self._cursor = session.cursor()
        self._ticks = ticks
        self._wake = wake
        self._clock = clock
        self._known = known
        self.version = self._version_column()
        """The version column, unless it is the watermark: that is read past anyway."""
        self.versions = _marking(plan, self.version, max_skew_seconds)
        """Its arithmetic."""
        self.version_at: str | None = None
        """The greatest version that was seen."""
        self.recent: dict[int, int] = {}
        """Hashes of rows before the open area that were handed out since the last look back."""
        self.outstanding: dict[int, Batch] = {}
        """What was handed out and is not acknowledged, by what was handed out; each as `inner` made it."""

    def __repr__(self) -> str:
        return f"Handing({self._plan.table}, {len(self.outstanding)} batches not acknowledged)"

    def begin(self, *, anew: bool = False) -> None:
        """Begin a read; `anew`: what was not acknowledged is to be handed out again."""
        if anew:
            self.outstanding.clear()
        self._inner.begin()

    def acknowledged(self, batch: Batch) -> None:
        """`batch` is in the target."""
        made = self.outstanding.pop(id(batch), None)
        if made is not None:
            self._inner.acknowledged(made)

    def low(self, mark: Mark | None) -> str | None:
        """The least watermark of the overlap that ends at `mark`."""
        return self._inner.low(mark)

    def close(self) -> None:
        self._inner.close()
        self._cursor.close()

    def area(self, area: Area, standing: ReadState) -> Reading:
        """The rows of `area`, which move the mark."""
        for part, page in self._pages.parts(area):
            last = part.hashed is None or part.hashed[0] == part.hashed[1] - 1
            standing = yield from self.page(page, standing, moving=last)
        return standing

    def page(self, page: pa.Table, standing: ReadState, *, moving: bool, touch: bool = True) -> Reading:
        """The rows of `page` that were not handed out as they are, in batches.

        Args:
            touch: False for a page of a range that is handed out as a whole.
        """
        page = self._unknown(page) if touch and page.num_rows else page
        if not page.num_rows:
            return standing
        self._wake.found()
        if touch:
            self._remember(page)
        position = self._ticks.next()
        with viewed(self._cursor, self._plan, page, position) as view:
            self._note_version(view)
            made = self._inner.changes(view, standing, known=False, moving=moving)
            with closing(made):
                while True:
                    try:
                        inner = next(made)
                    except StopIteration as ended:
                        state: ReadState = ended.value
                        self._inner.sweep(state.mark)
                        return state
                    batch = replace(inner, plan=self._plan)
                    self.outstanding[id(batch)] = inner
                    yield batch

    def _remember(self, page: pa.Table) -> None:
        """Rows of `page` are handed out in the state that they have in it."""
        names = (self._pages.key_hash, self._pages.row_hash, self._pages.place)
        keys, values, places = (page.column(name).to_pylist() for name in names)
        end = self._known.end
        if end is None:
            self._known.open.update(zip(keys, values, strict=True))
            return
        kind = mark_type(self._plan.watermark.type)
        least = kind.order(end)
        earlier = []
        for key, value, place in zip(keys, values, places, strict=True):
            if place is None or kind.order(place) >= least:
                self._known.open[key] = value
                self.recent.pop(key, None)
            else:
                self.recent[key] = value
                self._known.open.pop(key, None)
                earlier.append(place)
        self._known.touch(earlier)

    def _note_version(self, view: PageView) -> None:
        """Versions were seen up to the greatest of `view`, unless it lies too far in the future."""
        if self.version is None:
            return
        name, kind = identifier(self.version.name), self.version.type
        latest = None if self.versions is None else self.versions.latest(self._clock.wall())
        within = "TRUE" if latest is None else f"{name} <= CAST({literal(latest)} AS {kind})"
        found = self._largest(view.cursor, f"FROM {view.relation(self._plan.table)} WHERE {within}", name)
        if found is not None and (
            self.version_at is None or mark_type(kind).order(found) > mark_type(kind).order(self.version_at)
        ):
            self.version_at = found

    def _largest(self, cursor: duckdb.DuckDBPyConnection, rows: str, name: str) -> str | None:
        [(found,)] = cursor.execute(f"SELECT CAST(max({name}) AS VARCHAR) {rows}").fetchall()
        text: str | None = found
        return text

    def _unknown(self, page: pa.Table) -> pa.Table:
        """The rows of `page` that were not handed out as they are, as far as that is remembered."""
        keys, values = (
            page.column(name).to_pylist() for name in (self._pages.key_hash, self._pages.row_hash)
        )
        flags = [not self._remembered(key, value) for key, value in zip(keys, values, strict=True)]
        return page if all(flags) else page.filter(pa.array(flags, pa.bool_()))

    def by_hash(self, area: Area, page: pa.Table, standing: ReadState) -> Reading:
        """The rows whose hashes in `page` are not known."""
        wanted = hashes_of([self._unknown(page)], self._pages.key_hash)
        for at in range(0, len(wanted), _HASHES_AT_ONCE):
            keys = ", ".join(map(str, wanted[at : at + _HASHES_AT_ONCE]))
            also = f"{area.also} AND {self._pages.keys_hashed} IN ({keys})"
            for rows in self._pages.walk(Area(area.bounds, also)):
                standing = yield from self.page(rows, standing, moving=False)
        return standing

    def _remembered(self, key: int, value: int) -> bool:
        return value in (self._known.open.get(key), self.recent.get(key))

    def _version_column(self) -> Column | None:
        plan = self._plan
        if plan.version is None or plan.version == plan.watermark.name:
            return None
        return next(column for column in plan.columns if column.name == plan.version)


def _marking(plan: TablePlan, version: Column | None, max_skew_seconds: float) -> Marking | None:
    """The arithmetic of the version column; its overlap is the watermark's where that fits."""
    if version is None:
        return None
    for overlap in (plan.overlap, "0"):
        try:
            return Marking(replace(plan, watermark=version, overlap=overlap), max_skew_seconds)
        except SourceError:  # of another unit
            continue
    return None


def hashes_of(pages: Iterable[pa.Table], name: str) -> list[int]:
    """The hashes in the column `name` of `pages`."""
    found = [page.column(name).to_numpy() for page in pages if page.num_rows]
    values: list[int] = np.concatenate(found).tolist() if found else []
    return values
