"""Reads one served table: what is new past its mark, what came late, what was updated, and what is gone.

Nothing tells of a change but the table itself. Each look asks for the rows past the mark, and, where the
table has a version column, for those whose version is past the greatest that was seen. Now and then, for a
share of the time, it looks back by the overlap, by hashes alone. At an interval all ranges are compared by
digests which the server computes, a slice at a time: rows of ranges that differ are handed out again, and
where keys are gone, that is said: a comparison with the target finds which.

The first read, and the one after a restart of either side, hands out what is not known to be in the target;
new rows wait for that.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import pyarrow as pa

from cdc.change import Batch, BatchLimits, Mark, Position, TablePlan, Unseen
from cdc.clock import Clock
from cdc.duckdb_types import mark_type
from cdc.errors import SnapshotSuperseded
from cdc.source.events import SourceEvents
from cdc.source.file.calls import Calls
from cdc.source.quote import identifier, literal
from cdc.source.served.handing import Handing, Reading, hashes_of
from cdc.source.served.known import RANGE_ROWS, Digest, Known
from cdc.source.served.pages import Area, Pages
from cdc.source.served.wake import Ticks, Wake
from cdc.source.table.ranges import Range
from cdc.source.table.view import ReadState

SLICE_ROWS = 131_072
"""Rows whose digests are asked for at once: some 50 ms of the server."""
_SLICE_RANGES = 64
_MOST_OPEN = 100_000
"""Rows of the open area before it is looked at without waiting for the interval: some 15 MB."""
_LATE_SHARE = 0.1
"""Of the time, for looking back by the overlap."""
_LEAST_LATE_SECONDS = 0.2
_STORE_SECONDS = 5.0
_LACKING = "rows may have been deleted or got another key: keys that were there are not any more"
_RESTARTED = "rows may have been deleted while the table was not looked at"


@dataclass(frozen=True, slots=True)
class Comparing:
    """How often, and for how much of its time, a server computes digests."""

    interval_seconds: float = 60.0
    percent: float = 5.0


class ServedReader:
    """The reader of one served table that the replicator uses; for one thread."""

    def __init__(
        self,
        plan: TablePlan,
        pages: Pages,
        handing: Handing,
        calls: Calls,
        ticks: Ticks,
        wake: Wake,
        events: SourceEvents,
        clock: Clock,
        known: Known,
        comparing: Comparing,
        *,
        began_before: bool,
        loses_rows: bool,
    ) -> None:
        """
        Args:
            handing: hands out what is read of `pages`, by what is `known`.
            began_before: rows were delivered by another reader.
            loses_rows: rows that are gone are to go in the target too.
        """
        self._plan = plan
        self._pages = pages
        self._handing = handing
        self._calls = calls
        self._ticks = ticks
        self._wake = wake
        self._events = events
        self._clock = clock
        self._known = known
        self._comparing = comparing
        self._began_before = began_before
        self._loses_rows = loses_rows
        self._begun = False
        self._midway = False
        """A read began and did not come to its end: not all that is remembered was handed out."""
        self._read_to: Position | None = None
        self._unnoted: Unseen | None = None
        self._version_late: str | None = None
        self._late_at = self._store_at = clock.monotonic()
        self._late_from: Mark | None = None
        self._compare_at = clock.monotonic() + comparing.interval_seconds
        self._next: int | None = None
        """The range that the comparison under way looks at next; None: there is none."""

    def __repr__(self) -> str:
        return f"ServedReader({self._plan.table}, {self._known})"

    def read(self, after: Mark | None, limits: BatchLimits) -> Generator[Batch, None, None]:
        """See `TableReader.read`."""
        return self._calls.each(self._read(after, limits))

    def acknowledged(self, batch: Batch) -> None:
        """`batch` is in the target."""
        self._handing.acknowledged(batch)

    def rows_behind(self, after: Mark | None) -> int:
        """Rows past `after`, for the status.

        Raises:
            SourceError: the source cannot be read.
        """
        with self._calls.call():
            return self._pages.count(Area(Range(after=after)))

    def unseen_before_send(self) -> Unseen | None:
        """What may have gone unseen since this was asked last: to be remembered before anything is sent."""
        unseen, self._unnoted = self._unnoted, None
        return unseen

    def digests_before_send(self) -> bytes | None:
        """What must be stored before anything more is sent; see `known`."""
        return self._known.dump() if self._known.owed else None

    def digests_after_acknowledgement(self) -> bytes | None:
        """What may be stored now that everything handed out is acknowledged."""
        now = self._clock.monotonic()
        if not self._handing.outstanding:
            self._known.settle()
        if self._known.owed or (self._known.grown and now >= self._store_at):
            self._store_at = now + _STORE_SECONDS
            return self._known.dump()
        return None

    @property
    def position(self) -> Position | None:
        """Up to where everything is handed out after a read that came to its end; None: that is not known."""
        return None if self._midway else self._read_to

    @property
    def learning(self) -> bool:
        """Never: a look is due at the source's own pace."""
        return False

    def close(self) -> None:
        with self._calls.call(last=True):
            self._handing.close()

    def _read(self, after: Mark | None, limits: BatchLimits) -> Generator[Batch, None, None]:
        self._handing.begin()
        standing = ReadState(after, limits, self._clock.monotonic())
        if self._handing.outstanding or self._midway:
            self._anew()
        self._midway = True
        read_to = self._ticks.now()
        while True:
            try:
                yield from self._look(standing)
                self._midway, self._read_to = False, read_to
                return
            except SnapshotSuperseded:
                if self._wake.woken:
                    raise
                self._anew()

    def _look(self, standing: ReadState) -> Reading:
        if not self._begun:
            standing = yield from self._everything(standing)
        standing = yield from self._past_the_mark(standing)
        standing = yield from self._updated(standing)
        now = self._clock.monotonic()
        if now >= self._late_at:
            standing = yield from self._late(standing)
            after = self._clock.monotonic()
            self._late_at = after + max(_LEAST_LATE_SECONDS, (after - now) * (1 / _LATE_SHARE - 1))
        return (yield from self._compared(standing))

    def _anew(self) -> None:
        """What is there is to be compared with what is known, as at the start."""
        self._handing.begin(anew=True)
        self._known.unsettled()
        self._pages.adopt()
        self._begun, self._began_before, self._next = False, True, None

    # What is there already

    def _everything(self, standing: ReadState) -> Reading:
        """What of the whole table is not known to be in the target."""
        self._count_keys()
        if self._handing.version is not None:
            name = identifier(self._handing.version.name)
            self._handing.version_at = self._text(
                f"SELECT CAST(max({name}) AS VARCHAR) FROM {self._pages.relation}"
            )
            self._version_late = self._handing.version_at
        if self._began_before and self._loses_rows:
            self._note(_RESTARTED)
        if not self._known.ranges:
            self._known.begin(self._boundaries())
        self._late_from = standing.mark
        self._known.open.clear()
        standing = yield from self._differing(0, len(self._known.ranges), standing)
        for area in self._open_area():
            standing = yield from self._handing.area(area, standing)
        self._begun = True
        self._late_from = standing.mark or self._late_from
        return standing

    def _boundaries(self) -> list[str]:
        """Watermarks, in order, that cut what is no longer in flow into ranges."""
        mark = identifier(self._plan.watermark.name)
        newest = self._text(f"SELECT CAST(max({mark}) AS VARCHAR) FROM {self._pages.relation}")
        top = None if newest is None else self._handing.low(Mark(newest, ()))
        if top is None:
            return []
        area = Area(Range(high=top))
        parts = self._pages.count(area) // RANGE_ROWS
        places = self._pages.quantiles(area, parts)
        if parts > len(places) + 1 and places:
            coarse, places = [None, *places], []
            for low, high in zip(coarse, [*coarse[1:], top], strict=True):
                within = self._pages.quantiles(Area(Range(low=low, high=high)), 1 + parts // len(coarse))
                places += [*([] if low is None else [low]), *(each for each in within if each != low)]
        return places

    def _count_keys(self) -> None:
        """Find out whether each key has one row, where no constraint says so."""
        if self._plan.unique_key:
            return
        pages, texts = self._pages, [identifier(name) for name in self._plan.key]
        keys = ", ".join(texts)
        shown = " || ', ' || ".join(
            f"{literal(name + ' = ')} || coalesce(CAST({identifier(name)} AS VARCHAR), 'NULL')"
            for name in self._plan.key
        )
        before, pages.repeated = pages.repeated, False
        example = self._text(
            f"SELECT {shown} FROM {pages.relation} WHERE {pages.where(Area(Range()))} "
            f"GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"
        )
        pages.repeated = example is not None
        if example is not None and not before:
            self._events.key_repeated(self._plan.table, f"{example} has several rows")
        elif example is None and before:
            self._events.key_unique(self._plan.table)

    # What is new

    def _past_the_mark(self, standing: ReadState) -> Reading:
        return (yield from self._handing.area(Area(Range(after=standing.mark)), standing))

    def _updated(self, standing: ReadState) -> Reading:
        """Rows up to the mark whose version is past the greatest that was seen, or just that one."""
        if self._handing.version is None or standing.mark is None or not self._begun:
            return standing
        name, kind = identifier(self._handing.version.name), self._handing.version.type
        seen = self._handing.version_at
        newer = "TRUE" if seen is None else f"{name} >= CAST({literal(seen)} AS {kind})"
        for page in self._pages.walk(Area(Range(upto=standing.mark), f"{name} IS NOT NULL AND {newer}")):
            standing = yield from self._handing.page(page, standing, moving=False)
        return standing

    def _late(self, standing: ReadState) -> Reading:
        """Rows within the overlap, and versions within it, that are not known as they are.

        It goes back from where the mark was at the last look, so that no row falls between two of them.
        """
        mark = standing.mark
        if mark is None:
            return standing
        low = self._handing.low(self._late_from or mark)
        areas = [Area(Range(low=low, upto=mark)), *self._without_watermark()]
        if (
            self._handing.version is not None
            and self._version_late is not None
            and self._handing.versions is not None
        ):
            least = self._handing.versions.low(self._version_late)
            if least is not None:
                name, kind = identifier(self._handing.version.name), self._handing.version.type
                areas.append(Area(Range(upto=mark), f"{name} >= CAST({literal(least)} AS {kind})"))
        recent = len(self._handing.recent)
        for area in areas:
            for page in self._pages.walk(area, whole=False):
                standing = yield from self._handing.by_hash(area, page, standing)
        self._late_from, self._version_late = mark, self._handing.version_at
        if recent > _MOST_OPEN:
            self._handing.recent.clear()
        return standing

    # What is not as it was

    def _compared(self, standing: ReadState) -> Reading:
        """A slice of the comparison that is due."""
        now = self._clock.monotonic()
        crowded = len(self._known.open) > _MOST_OPEN and self._handing.low(standing.mark) is not None
        if now < self._compare_at and not (crowded and self._next is None):
            return standing
        if self._next is None:
            self._next = len(self._known.ranges) if now < self._compare_at else 0
            if self._next == 0:
                self._count_keys()
        first = self._next
        if first < len(self._known.ranges):
            end = self._slice(first)
            standing = yield from self._differing(first, end, standing)
            self._next = end
            pause = (self._clock.monotonic() - now) * (100.0 / self._comparing.percent - 1.0)
            self._compare_at = self._clock.monotonic() + pause
            return standing
        standing = yield from self._open_compared(standing)
        self._next = None
        self._compare_at = self._clock.monotonic() + self._comparing.interval_seconds
        return standing

    def _slice(self, first: int) -> int:
        """The number of the range after those that are compared at once with the one of number `first`."""
        rows = 0
        for number in range(first, min(len(self._known.ranges), first + _SLICE_RANGES)):
            digest = self._known.ranges[number].digest
            rows += RANGE_ROWS if digest is None else digest.rows
            if rows > SLICE_ROWS and number > first:
                return number
        return min(len(self._known.ranges), first + _SLICE_RANGES)

    def _differing(self, first: int, end: int, standing: ReadState) -> Reading:
        """Rows of the ranges from number `first` on that are not as they were handed out, or never were."""
        while first < end:
            upto = min(end, self._slice(first))
            found: dict[int, Digest] = {}
            if any(each.digest is not None for each in self._known.ranges[first:upto]):
                found = self._digests(first, upto)
            for number in range(first, upto):
                each = self._known.ranges[number]
                now = found.get(number, Digest())
                if each.known and each.digest == now:
                    continue
                before = each.digest
                self._known.forget(number)
                if (
                    before is not None
                    and self._loses_rows
                    and (before.rows, before.keys)
                    != (
                        now.rows,
                        now.keys,
                    )
                ):
                    self._note(_LACKING)
                bounds = Range(low=self._known.low(number), high=each.high)
                total = Digest()
                for page in self._pages.walk(Area(bounds)):
                    total += Digest.of(page.column(self._pages.key_hash), page.column(self._pages.row_hash))
                    standing = yield from self._handing.page(
                        page, standing, moving=not self._begun, touch=False
                    )
                self._known.learn(number, total)
            first = upto
        return standing

    def _digests(self, first: int, end: int) -> dict[int, Digest]:
        """What the server has in the ranges from number `first` on."""
        pages, known = self._pages, self._known
        mark, kind = identifier(self._plan.watermark.name), self._plan.watermark.type
        cases = " ".join(
            f"WHEN {mark} < CAST({literal(known.ranges[number].high)} AS {kind}) THEN {number}"
            for number in range(first, end)
        )
        area = Area(Range(low=known.low(first), high=known.ranges[end - 1].high))
        modulus = "18446744073709551616"
        found = pages.ask(
            f"SELECT number, count(*) AS counted, CAST(sum(k) % {modulus} AS UBIGINT) AS keys, "
            f"CAST(sum(v) % {modulus} AS UBIGINT) AS vals FROM (SELECT CASE {cases} END AS number, "
            f"{pages.keys_hashed} AS k, {pages.row_hashed} AS v FROM {pages.relation} "
            f"WHERE {pages.where(area)}) GROUP BY number ORDER BY number"
        )
        return {row["number"]: Digest(row["counted"], row["keys"], row["vals"]) for row in found.to_pylist()}

    def _open_compared(self, standing: ReadState) -> Reading:
        """Rows of the open area that are not as they were handed out; what is no longer in flow becomes
        ranges."""
        mark, known = standing.mark, self._known
        if mark is None:
            return standing
        seen: list[pa.Table] = []
        area = Area(Range(low=known.end, upto=mark))
        for part in (area, Area(Range(after=mark)), *self._without_watermark()):
            for page in self._pages.walk(part, whole=False):
                seen.append(page)
                if part.bounds is None or part.bounds.after is None:
                    standing = yield from self._handing.by_hash(part, page, standing)
        there = set(hashes_of(seen, self._pages.key_hash))
        gone = [key for key in known.open if key not in there]
        for key in gone:
            del known.open[key]
        if gone and self._loses_rows:
            self._note(_LACKING)
        self._close_ranges(seen, self._handing.low(self._late_from or mark))
        return standing

    def _close_ranges(self, seen: list[pa.Table], low: str | None) -> None:
        """Make ranges of the rows in the open area before the watermark `low`; `seen` are its hashes."""
        if low is None or not seen:
            return
        known, kind = self._known, mark_type(self._plan.watermark.type)
        limit = kind.order(low)
        rows = [
            (kind.order(place), place, key, value)
            for page in seen
            for key, value, place in zip(*(column.to_pylist() for column in page.columns), strict=True)
            if place is not None
        ]
        rows.sort(key=lambda row: row[0])
        highs: list[str] = []
        digests: list[Digest | None] = []
        start = 0
        for at in range(RANGE_ROWS, len(rows), RANGE_ROWS):
            if at < start or rows[at][0] > limit:
                continue
            end = at
            while end > start and rows[end - 1][0] == rows[at][0]:
                end -= 1
            if end == start:
                continue
            within = rows[start:end]
            whole = all(known.open.get(key) == value for _, _, key, value in within)
            total = Digest(
                len(within),
                sum(row[2] for row in within) % (1 << 64),
                sum(row[3] for row in within) % (1 << 64),
            )
            highs.append(rows[at][1])
            digests.append(total if whole else None)
            for row in within:
                known.open.pop(row[2], None)
            start = end
        known.close(highs, digests)

    # How rows are handed out

    def _open_area(self) -> Iterator[Area]:
        yield Area(Range(low=self._known.end))
        yield from self._without_watermark()

    def _without_watermark(self) -> Iterator[Area]:
        if self._plan.watermark.nullable:
            yield Area(None)

    def _text(self, sql: str) -> str | None:
        found = self._pages.ask(sql)
        value: str | None = found.column(0)[0].as_py() if found.num_rows else None
        return value

    def _note(self, reason: str) -> None:
        self._unnoted = Unseen(reason)
