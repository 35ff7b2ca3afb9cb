"""How are rows of a served table read in pages, none of which leaves anything open in the writer?

A page is what one statement selects, sorted, of at most as many rows as one response holds (see `client`).
Where a range of watermarks has more, it is cut by watermarks of a sample; where that does not help, for they
are all alike or NULL, by a hash of the key. Nothing is ever sorted that is not a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from cdc.change import Column, TablePlan
from cdc.errors import SnapshotSuperseded, SourceError
from cdc.source.quote import by_bytes, identifier, literal, qualified
from cdc.source.served.carried import as_local, carried
from cdc.source.served.client import Client
from cdc.source.served.server import Server
from cdc.source.table.altered import check_columns
from cdc.source.table.overlap import hash_of
from cdc.source.table.ranges import Range, Selection
from cdc.source.table.repeated_keys import hidden

_SAMPLES = 64
"""Sampled rows for each page that a range is cut into: its size then scatters by an eighth, so that few are
asked for twice."""
_MOST_PARTS = 256
"""Ranges that one cut makes at most: the sample is a page itself."""
_FILL = 0.7
"""Of a page that a cut aims at, for samples scatter."""
_PAGE_BYTES = 16 << 20
"""What a page aims at: wide rows make pages of fewer rows."""
_WIDER = 8
"""So many times the rows of one page may the next have, if theirs were narrow."""
_FIRST_ROWS = 2_048
"""Of the first page, when it is not known yet how wide rows are."""


@dataclass(slots=True)
class Spelled(Selection):
    """A WHERE clause whose values stand in it: the protocol has no parameters."""

    parameters: list[str] = field(default_factory=list)

    def value(self, text: str, kind: str) -> str:
        return f"CAST({literal(text)} AS {kind})"


@dataclass(frozen=True, slots=True)
class Area:
    """Rows to be read: within `bounds`, and where `also` holds."""

    bounds: Range | None = None
    """None: the rows without a watermark."""
    also: str = "TRUE"
    hashed: tuple[int, int] | None = None
    """Only one of so many parts, cut by a hash of the key."""


class Pages:
    """Reads one table in pages. For one thread."""

    def __init__(self, plan: TablePlan, client: Client, server: Server) -> None:
        self.plan = plan
        self._client = client
        self._server = server
        self._rows = _FIRST_ROWS
        self.generation = server.generation
        """The server whose rows are read; another one's are not taken for a continuation."""
        self.repeated = False
        """Some key has several rows: those that the target does not show are left out."""
        kinds = {column.name: column for column in plan.columns}
        self._keys = [kinds[name] for name in plan.key]
        taken = plan.column_names
        self.key_hash = plan.free_name("__cdc_key")
        self.row_hash = plan.free_name("__cdc_row")
        self.place = plan.free_name("__cdc_place")
        assert len({self.key_hash, self.row_hash, self.place, *taken}) == len(taken) + 3

    @property
    def relation(self) -> str:
        return qualified(self._server.facts.database, self.plan.table)

    @property
    def keys_hashed(self) -> str:
        """The SQL of a hash of the key."""
        return f"hash({', '.join(map(by_bytes, self._keys))})"

    @property
    def hashed(self) -> str:
        """The SQL of the hashes of a row's key and of all its columns, and of its watermark's text."""
        mark = identifier(self.plan.watermark.name)
        return (
            f"{self.keys_hashed} AS {self.key_hash}, {self.row_hashed} AS {self.row_hash}, "
            f"CAST({mark} AS VARCHAR) AS {self.place}"
        )

    def where(self, area: Area) -> str:
        """The condition that a row is in `area`."""
        selection = Spelled(self.plan)
        if area.bounds is None:
            within = f"{selection.filter()} AND {identifier(self.plan.watermark.name)} IS NULL"
        else:
            within = selection.within(area.bounds)
        terms = [within, area.also]
        if area.hashed is not None:
            terms.append(f"{self.keys_hashed} % {area.hashed[1]} = {area.hashed[0]}")
        if self.repeated:
            terms.append(f"rowid NOT IN ({hidden(self.plan, self.relation)})")
        return " AND ".join(terms)

    @property
    def row_hashed(self) -> str:
        """The SQL of a hash of all delivered columns."""
        return hash_of(self.plan)

    def adopt(self) -> None:
        """The server that answers now is the one that is read."""
        self.generation = self._server.generation

    def walk(self, area: Area, *, whole: bool = True) -> Iterator[pa.Table]:
        """The pages of `parts`."""
        return (page for _, page in self.parts(area, whole=whole))

    def parts(self, area: Area, *, whole: bool = True) -> Iterator[tuple[Area, pa.Table]]:
        """The rows of `area` in pages, each with its part of the area: in order of watermark, and within a
        page of the key too.

        Args:
            whole: the plan's columns, as `carried`, and the hashes; False: the hashes alone.

        Raises:
            SnapshotSuperseded: another server answers.
            SourceError: the table cannot be read, or does not match the plan.
        """
        waiting = [area]
        while waiting:
            area = waiting.pop()
            most = min(self._rows, self._server.facts.page_rows) if whole else self._server.facts.page_rows
            page = self.page(area, most, whole=whole)
            if page.num_rows <= most:
                if page.num_rows:
                    yield area, page
                continue
            if whole and most < min(self._rows, self._server.facts.page_rows):
                waiting.append(area)  # rows are less wide than was feared
            else:
                waiting.extend(reversed(self._cut(area, most)))

    def page(self, area: Area, most: int, *, whole: bool = True) -> pa.Table:
        """At most `most` rows of `area`, or one more if there are more."""
        plan = self.plan
        inner = (
            [*(identifier(name) for name in plan.column_names)]
            if whole
            else [identifier(name) for name in dict.fromkeys((plan.watermark.name, *plan.key))]
        )
        outer = [carried(column, "page.") for column in plan.columns] if whole else []
        names = [identifier(column.name) for column in plan.columns] if whole else []
        selected = [f"{sql} AS {name}" for sql, name in zip(outer, names, strict=True)]
        selected += [f"page.{name}" for name in (self.key_hash, self.row_hash, self.place)]
        order = ", ".join(f"page.{by_bytes(column)}" for column in (plan.watermark, *self._keys))
        found = self.ask(
            f"SELECT {', '.join(selected)} FROM (SELECT {', '.join(inner)}, {self.hashed} "
            f"FROM {self.relation} WHERE {self.where(area)} LIMIT {most + 1}) AS page ORDER BY {order}"
        )
        if whole and found.num_rows:
            fits = max(1, int(_PAGE_BYTES * found.num_rows / max(found.nbytes, 1)))
            self._rows = min(fits, _WIDER * max(found.num_rows, self._rows))
        return as_local(found, plan.columns if whole else ())

    def single(self, sql: str) -> int:
        """The number that a SELECT of one answers; NULL is 0."""
        return int(self.ask(sql).column(0)[0].as_py() or 0)

    def ask(self, sql: str) -> pa.Table:
        """See `Client.ask`. A difference between the table and its plan is the reason of whatever fails.

        Raises:
            SnapshotSuperseded: another server answers.
            SourceError: as said.
        """
        try:
            found = self._client.ask(sql, "read", self.plan.table)
        except SourceError as error:
            if error.meaning is type(error).meaning:
                self._explain()
            raise
        if self._server.generation != self.generation:
            raise SnapshotSuperseded(
                "read", self.plan.table, "the writer that serves it was restarted", "Read it again"
            )
        return found

    def quantiles(self, area: Area, parts: int) -> list[str]:
        """Watermarks, in order and each once, that cut `area` into about so many parts, at most 256."""
        parts = min(parts, _MOST_PARTS)
        if parts < 2 or area.bounds is None:
            return []
        column = by_bytes(self.plan.watermark)
        size = min(_SAMPLES * parts, self._server.facts.page_rows)
        found = (
            self.ask(
                f"SELECT CAST(mark AS VARCHAR) AS place FROM (SELECT {column} AS mark FROM {self.relation} "
                f"WHERE {self.where(area)} USING SAMPLE reservoir({size} ROWS)) ORDER BY mark"
            )
            .column(0)
            .to_pylist()
        )
        step = max(1, len(found) // parts)
        return list(dict.fromkeys(found[step::step]))

    def count(self, area: Area) -> int:
        return self.single(f"SELECT count(*) FROM {self.relation} WHERE {self.where(area)}")

    def _cut(self, area: Area, most: int) -> Sequence[Area]:
        """Parts of `area`, in order, each smaller than it."""
        total = self.count(area)
        parts = 1 + int(total / (most * _FILL))
        bounds = area.bounds
        places = [] if area.hashed is not None else self.quantiles(area, parts)
        if bounds is not None and bounds.low is not None:
            places = [place for place in places if place != bounds.low]
        if not places or bounds is None:
            before, of = area.hashed or (0, 1)
            parts = max(2, parts)
            return [Area(bounds, area.also, (before + number * of, of * parts)) for number in range(parts)]
        lows: list[str | None] = [bounds.low, *places]
        highs: list[str | None] = [*places, bounds.high]
        return [
            Area(Range(low, high, bounds.after, bounds.upto), area.also)
            for low, high in zip(lows, highs, strict=True)
        ]

    def _explain(self) -> None:
        """Raises:
        SourceError: the table's columns are not the plan's.
        """
        name = literal(self._server.facts.database)
        table = self.plan.table
        try:
            found = self._client.ask(
                f"SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = {name} "
                f"AND schema_name = {literal(table.schema)} AND table_name = {literal(table.name)} "
                "ORDER BY column_index"
            )
        except SourceError:
            return
        types = dict(zip(*(column.to_pylist() for column in found.columns), strict=True))
        if not types:
            raise SourceError(
                "read",
                table,
                "the table is gone",
                "Create it again, or take it out of [[tables]] and restart",
            )
        check_columns(self.plan, types)


def columns_of(rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """The plan's columns of a page."""
    return rows.select([column.name for column in columns])
