"""The source as the replicator and the commands see it, where a writer serves its database itself.

It gives the same readers, plans, marks and batches as a file does. What a file's log shows of itself, a look
at the table has to find here; see `reader`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa

from cdc.change import Column, Position, TableId, TablePlan, TableSchema
from cdc.clock import Clock, SystemClock
from cdc.closing import Closing
from cdc.eras import Eras, MemoryEras
from cdc.errors import SnapshotSuperseded, SourceError
from cdc.source.events import NoEvents, SourceEvents
from cdc.source.file.session import Session, SessionLimits
from cdc.source.file.snapshot import Snapshot
from cdc.source.quote import identifier, qualified
from cdc.source.served.carried import as_local, carried, check_carried, restored
from cdc.source.served.catalog import read_served_tables
from cdc.source.served.client import Client, Connect, over_adbc
from cdc.source.served.handing import Handing
from cdc.source.served.known import Known
from cdc.source.served.pages import Area, Pages
from cdc.source.served.reader import Comparing, ServedReader
from cdc.source.served.server import Server
from cdc.source.served.view import local
from cdc.source.served.wake import Ticks, Wake
from cdc.source.table.ranges import Range
from cdc.source.table.snapshot_reader import SnapshotReader

CLOSE_SECONDS = 15.0
CATALOG_SECONDS = 10.0
"""How often tables are looked for."""
DEFAULT_TIMEOUT_SECONDS = 30.0
DEFAULT_SKEW_SECONDS = 60.0
_ANSWER = "cdc_answer"

Result = TypeVar("Result")


class _NoSnapshots:
    """Where pages are handed out, none is asked for: their key is unique by then."""

    def take(self) -> Snapshot:
        raise AssertionError("a served table has no snapshots")

    def run(self, work: Callable[[Snapshot], Result]) -> Result:  # noqa: ARG002
        raise AssertionError("a served table has no snapshots")

    def overtaken(self, error: SnapshotSuperseded) -> None:
        raise AssertionError("a served table has no snapshots") from error

    def known(self, plan: TablePlan) -> bool:  # noqa: ARG002
        return False

    def count(self, plan: TablePlan) -> None: ...

    def noticed(self, plan: TablePlan, key: tuple[str, ...]) -> None: ...


_NO_SNAPSHOTS = _NoSnapshots()


class ServedSnapshot(Closing):
    """What one question after the other is put to; each is answered from the newest committed state."""

    def __init__(self, source: ServedSource, cursor: duckdb.DuckDBPyConnection) -> None:
        self._source = source
        self.cursor = cursor

    @property
    def position(self) -> Position:
        return self._source.position()

    def relation(self, table: TableId) -> str:
        """The table's qualified name, in the server."""
        return qualified(self._source.server.facts.database, table)

    def single(self, sql: str) -> int:
        """The number that a SELECT of one answers.

        Raises:
            SourceError: it cannot be read.
        """
        return int(self._source.client.ask(sql, "query").column(0)[0].as_py())

    def query(self, sql: str) -> pa.RecordBatchReader:
        """Run one SELECT in the server; its rows, all at once, with their types.

        Raises:
            SourceError: it cannot be run, or has a column that cannot be carried.
        """
        client, address = self._source.client, self._source.address
        described = client.ask(f"SELECT column_name, column_type FROM (DESCRIBE {sql}\n)", "query", address)
        names, kinds = (column.to_pylist() for column in described.columns)
        # The names need not differ, nor be ones that can be selected from.
        columns = [Column(f"c{number}", kind) for number, kind in enumerate(kinds)]
        check_carried(TableId("the", "answer"), columns)
        most = self._source.server.facts.page_rows
        listed = ", ".join(column.name for column in columns)
        selected = ", ".join(f"{carried(column)} AS {column.name}" for column in columns)
        # Sorted by its own order: so its chunks are full, and it is one response; see `client`.
        numbered = f"SELECT *, row_number() OVER () FROM (SELECT * FROM ({sql}\n) LIMIT {most + 1})"
        answer = client.ask(
            f"SELECT {selected} FROM ({numbered}) AS answer({listed}, place) ORDER BY answer.place",
            "query",
            address,
        )
        if answer.num_rows > most:
            raise SourceError(
                "query",
                address,
                f"the answer has more than {most:,} rows, the rest of which would stay open in the writer",
                "Add a LIMIT, or ask for less",
            )
        found = as_local(answer, columns)
        self.cursor.register(_ANSWER, found)
        try:
            table = self.cursor.sql(f"SELECT {restored(columns)} FROM temp.{_ANSWER}").to_arrow_table()
        finally:
            self.cursor.unregister(_ANSWER)
        return table.rename_columns(names).to_reader()

    def interrupt(self) -> None:
        """Stop waiting for an answer: what was asked for goes on in the server."""
        self._source.client.abandon()

    def close(self) -> None:
        self.cursor.close()


class ServedSource(Closing):
    """One served database. Its methods may be called from several threads; a reader belongs to one."""

    def __init__(
        self,
        address: str,
        server: Server,
        client: Client,
        session: Session,
        wake: Wake,
        ticks: Ticks,
        clock: Clock,
        events: SourceEvents,
        comparing: Comparing,
        *,
        max_skew_seconds: float,
        deletes: bool,
    ) -> None:
        self.address = address
        self.server = server
        self.client = client
        self._session = session
        self._wake = wake
        self._ticks = ticks
        self._clock = clock
        self._events = events
        self._comparing = comparing
        self._max_skew_seconds = max_skew_seconds
        self._deletes = deletes
        self._renewed_at = clock.monotonic()
        self.closed = False
        """No thread is in a call any more, and none will be."""

    def __repr__(self) -> str:
        return f"ServedSource({self.address}, {self.identity})"

    @property
    def path(self) -> str:
        """Where it is served."""
        return self.address

    @property
    def identity(self) -> str:
        """The database at the address: see `server`."""
        return self.server.facts.identity

    @property
    def untested(self) -> tuple[str, ...]:
        """Nothing is read that depends on the version of what writes."""
        return ()

    @property
    def encrypted(self) -> bool:
        """Whether it is read with a key: its writer has that."""
        return False

    @property
    def woken_by_log(self) -> bool:
        """Whether the writer's log is here, so that its growth ends a wait."""
        return self._wake.sees_log

    def tables(self) -> Sequence[TableSchema]:
        """Every table, as it is now.

        Raises:
            SourceError: the server cannot be read.
        """
        with self._session.calls.call():
            return read_served_tables(self.client, self.server.facts.database)

    def position(self) -> Position:
        """The newest position that was counted; see `wake`. No log tells of a table that is created: now and
        then it begins an era, after which the catalog is read again."""
        now = self._clock.monotonic()
        if now - self._renewed_at >= CATALOG_SECONDS:
            self._renewed_at = now
            self._ticks.renew()
        return self._ticks.now()

    def open(
        self, plan: TablePlan, since: Position | None = None, digests: bytes | None = None
    ) -> ServedReader:
        """A reader of one table, for one thread.

        Args:
            since: the position of the last batch delivered: all that follow are greater.
            digests: what a reader of the table gave to be stored last.

        Raises:
            SourceError: the plan asks for what cannot be done with its columns' types.
        """
        check_carried(plan.table, plan.columns)
        if since is not None:
            self._ticks.past(since.as_version())
        pages = Pages(plan, self.client, self.server)
        known = Known(plan, self.server.facts.version)
        if digests is not None:
            known.load(digests)
        # The server has applied the filter, and leaves out what a repeated key hides.
        delivered = replace(plan, filter=None, unique_key=True)
        inner = SnapshotReader(
            delivered, _NO_SNAPSHOTS, self._session, self._clock, self._max_skew_seconds, _NO_SNAPSHOTS
        )
        handing = Handing(
            plan,
            pages,
            inner,
            self._session,
            self._ticks,
            self._wake,
            self._clock,
            known,
            self._max_skew_seconds,
        )
        return ServedReader(
            plan,
            pages,
            handing,
            self._session.calls,
            self._ticks,
            self._wake,
            self._events,
            self._clock,
            known,
            self._comparing,
            began_before=since is not None or digests is not None,
            loses_rows=self._deletes or plan.filter is not None,
        )

    def snapshot(self) -> ServedSnapshot:
        """What questions are put to."""
        return ServedSnapshot(self, self._session.cursor())

    def rows(self, plan: TablePlan, low: str | None, high: str | None) -> pa.RecordBatchReader:
        """The plan's columns of all rows with `low <= watermark < high`, by watermark and key.

        None leaves an end open; rows without a watermark come first where `low` is None. Each page is of a
        state of its own.

        Raises:
            SnapshotSuperseded: the server was restarted; also while the rows are read.
            SourceError: the server cannot be read, or its table does not match the plan.
        """
        check_carried(plan.table, plan.columns)
        pages = Pages(plan, self.client, self.server)
        areas = [Area(None)] if low is None else []
        areas.append(Area(Range(low=low, high=high)))
        cursor = self._session.cursor()
        empty = ", ".join(
            f"CAST(NULL AS {column.type}) AS {identifier(column.name)}" for column in plan.columns
        )
        schema = cursor.sql(f"SELECT {empty} LIMIT 0").to_arrow_table().schema

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for area in areas:
                    for page in pages.walk(area):
                        with self._session.calls.call():
                            yield from local(cursor, plan.columns, page).to_batches()
            finally:
                cursor.close()

        return pa.RecordBatchReader.from_batches(schema, batches())

    def boundaries(self, plan: TablePlan, ranges: int) -> tuple[str, ...]:
        """At most `ranges - 1` watermarks, in order, that cut the table into ranges of about equal rows.

        Raises:
            SourceError: the server cannot be read, or its table does not match the plan.
        """
        pages = Pages(plan, self.client, self.server)
        return tuple(pages.quantiles(Area(Range()), ranges))[: max(0, ranges - 1)]

    def outrank(self, version: int) -> Position:
        """The newest position, of a greater version than `version`, as all later ones then are."""
        return self._ticks.past(version)

    def wait(self, since: Position, timeout_seconds: float) -> Position:
        """Wait until the position differs from `since`, and answer it; `since` itself if the time passed or
        `wake` was called."""
        return self._wake.wait(since, timeout_seconds)

    def nudge(self) -> None:
        """End every `wait` that is under way, from any thread."""
        self._wake.nudge()

    def wake(self) -> None:
        """End every `wait` now and those to come, from any thread."""
        self._wake.wake()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """End every wait, wait for calls under way, and let go of the server."""
        self.wake()
        self.client.abandon()
        if self._session.calls.end(seconds):
            self._session.close()
            self.closed = True
        self.client.close()


def open_served(
    address: str,
    token: str,
    *,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    poll_seconds: float = 0.02,
    idle_seconds: float = 1.0,
    comparing: Comparing | None = None,
    memory_limit_mb: int = 512,
    threads: int = 2,
    spill: Path | None = None,
    max_skew_seconds: float = DEFAULT_SKEW_SECONDS,
    deletes: bool = False,
    events: SourceEvents | None = None,
    eras: Eras | None = None,
    connect: Connect | None = None,
    clock: Clock | None = None,
) -> ServedSource:
    """Open the database that a writer serves at `address`, which is `quack://host:port`.

    Args:
        timeout_seconds: what one statement may take; after it the server goes on with it, and is asked again.
        poll_seconds, idle_seconds: between two looks, while something happens and while nothing does.
        comparing: how often ranges are compared by digests.
        memory_limit_mb: of the DuckDB here, through which pages go.
        deletes: rows that are gone are to go in the target too.
        eras: the counter that versions are made of; None: one of this process's own.
        connect: opens a connection; None: with the driver `adbc-driver-quack`.

    Raises:
        SourceError: nothing answers there, it refuses the token, or what it serves cannot be followed.
    """
    clock, events = clock or SystemClock(), events or NoEvents()
    server = Server(address)
    client = Client(address, token, connect or over_adbc(address, token, timeout_seconds), server.greet)
    client.ask("SELECT 1", "open")
    ticks = Ticks(eras or MemoryEras(clock.wall()))
    log = Path(server.facts.path + ".wal")
    wake = Wake(
        ticks,
        clock,
        log if log.is_absolute() else None,
        shortest=poll_seconds,
        longest=idle_seconds,
    )
    session = Session(SessionLimits(memory_limit_mb, threads), failed=events.duckdb_failed, spill=spill)
    return ServedSource(
        address,
        server,
        client,
        session,
        wake,
        ticks,
        clock,
        events,
        comparing or Comparing(),
        max_skew_seconds=max_skew_seconds,
        deletes=deletes,
    )
