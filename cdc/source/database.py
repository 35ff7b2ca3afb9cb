"""The source as the replicator and the commands see it: one DuckDB file, opened once, read in snapshots."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from cdc.change import Batch, BatchLimits, Mark, Position, TablePlan, TableSchema, Unseen
from cdc.clock import Clock, SystemClock
from cdc.closing import Closing
from cdc.eras import Eras
from cdc.source.events import NoEvents, SourceEvents
from cdc.source.file.calls import Calls
from cdc.source.file.passing import PassingLogs, passing_logs
from cdc.source.file.pin import Pinner
from cdc.source.file.session import SMALL_STATEMENTS, Session, SessionLimits
from cdc.source.file.snapshot import Snapshot, Snapshots
from cdc.source.file.watch import Watch
from cdc.source.format.tested import untested_reader, untested_writer
from cdc.source.table.ranges import plan_boundaries, read_range
from cdc.source.table.reader import TailingReader
from cdc.source.table.repeated_keys import RepeatedKeys
from cdc.source.table.snapshot_reader import SnapshotReader
from cdc.source.tail.checkpoint_base import Bases
from cdc.source.tail.direct import CHECK_PERCENT, Decoding
from cdc.source.tail.tail import Lost, Tail

DEFAULT_SKEW_SECONDS = 60.0
DEFAULT_POLL_SECONDS = 1.0
CLOSE_SECONDS = 15.0
"""What a close waits for calls under way: DuckDB cannot be interrupted in the replay of a log."""
_LEAST_MB = 64
"""What decodes the log has so much memory, however little the snapshots are given."""


class DuckDbSource(Closing):
    """One DuckDB file. Its methods may be called from several threads; a reader belongs to one."""

    def __init__(
        self,
        pinner: Pinner,
        session: Session,
        tail_session: Session,
        snapshots: Snapshots,
        watch: Watch,
        passing: PassingLogs | None,
        clock: Clock,
        events: SourceEvents,
        *,
        max_skew_seconds: float,
        not_followed: str | None,
        deletes: bool,
        decoding: Decoding,
    ) -> None:
        self._pinner = pinner
        self._session = session
        self._tail_session = tail_session
        self._bases = Bases(pinner, tail_session)
        self._snapshots = snapshots
        self._watch = watch
        self._passing = passing
        self._clock = clock
        self._events = events
        self._max_skew_seconds = max_skew_seconds
        self._not_followed = not_followed
        self._deletes = deletes
        self._repeated = RepeatedKeys(snapshots, events)
        self._decoding = decoding
        self.closed = False
        """No thread is in a call any more, and none will be."""

    def __repr__(self) -> str:
        return f"DuckDbSource({self._pinner.path}, {self.identity})"

    @property
    def path(self) -> Path:
        return self._pinner.path

    @property
    def identity(self) -> str:
        """The database's identifier, or what stands for it in files without one."""
        return self._pinner.identity

    @property
    def untested(self) -> tuple[str, ...]:
        """What there is to say of the versions of DuckDB at work that were not tested, as sentences."""
        said = untested_reader(duckdb.__version__), untested_writer(self._pinner.headers)
        return tuple(each for each in said if each is not None)

    @property
    def encrypted(self) -> bool:
        """Whether it is read with a key."""
        with self._pinner.pin() as pin:
            return pin.headers.encrypted

    @property
    def superseded(self) -> int:
        """How many snapshots a checkpoint has overtaken so far."""
        return self._snapshots.superseded

    def tables(self) -> Sequence[TableSchema]:
        """Every table of the newest snapshot.

        Raises:
            SourceError: the file cannot be read.
        """
        return self._snapshots.run(Snapshot.tables)

    def position(self) -> Position:
        """The newest committed position, from headers alone.

        Raises:
            SourceError: the file cannot be read.
            SourceReplaced: it is no longer the database it was.
        """
        return self._pinner.position()

    def open(
        self, plan: TablePlan, since: Position | None = None, digests: bytes | None = None
    ) -> CountedReader:
        """A reader of one table, for one thread: it follows the log where it can, else it reads snapshots.

        Args:
            since: the position of the last batch delivered, from where the log is followed if it is there.
            digests: what a reader of the table gave to be stored last.

        Raises:
            SourceError: the plan asks for what cannot be done with its columns' types.
        """
        reader = SnapshotReader(
            plan, self._snapshots, self._session, self._clock, self._max_skew_seconds, self._repeated
        )

        def make_tail() -> Tail:
            if self._not_followed is not None:
                raise Lost(self._not_followed)
            schema = next((schema for schema in self.tables() if schema.table == plan.table), None)
            if schema is None:
                raise Lost("the table is gone")
            return Tail(
                plan.table,
                schema.columns,
                plan.key,
                self._bases,
                self._passing,
                filter=plan.filter,
                decoding=self._decoding,
            )

        tailing = TailingReader(
            plan.table,
            reader,
            make_tail,
            self._pinner,
            self._events,
            self._clock,
            since=since,
            digests=digests,
            deletes=self._deletes,
        )
        return CountedReader(tailing, self._session.calls)

    def outrank(self, version: int) -> Position:
        """The newest position, made a later one if need be, so that its version is greater than `version`.

        Raises:
            SourceError: the file cannot be read.
            StateError: the eras could not be raised, or `version` is past them all.
        """
        return self._pinner.outrank(version)

    def snapshot(self) -> Snapshot:
        """The newest committed state, to be closed soon: it lasts until the writer's next checkpoint.

        Raises:
            SourceError: the file cannot be read.
        """
        return self._snapshots.take()

    def rows(self, plan: TablePlan, low: str | None, high: str | None) -> pa.RecordBatchReader:
        """The plan's columns of all rows with `low <= watermark < high`, by watermark and key.

        None leaves an end open; rows without a watermark come first where `low` is None. The rows are of one
        snapshot.

        Raises:
            SnapshotSuperseded: a checkpoint came in between; also while the rows are read.
            SourceError: the file cannot be read, or its table does not match the plan.
        """
        return read_range(self._snapshots.take(), plan, low, high)

    def boundaries(self, plan: TablePlan, ranges: int) -> tuple[str, ...]:
        """At most `ranges - 1` watermarks, in order, that cut the table into ranges of about equal rows.

        A comparison begins so: whether each key has one row is counted too, where no constraint says it.

        Raises:
            SourceError: the file cannot be read, or its table does not match the plan.
        """
        self._repeated.count(plan)
        return self._snapshots.run(lambda snapshot: plan_boundaries(snapshot, plan, ranges))

    def wait(self, since: Position, timeout_seconds: float) -> Position:
        """Wait until the position differs from `since`, and answer it; `since` itself if the time passed or
        `wake` was called.

        Raises:
            SourceError: the file cannot be read.
        """
        return self._watch.wait(since, timeout_seconds)

    def nudge(self) -> None:
        """End every `wait` that is under way, from any thread."""
        self._watch.nudge()

    def wake(self) -> None:
        """End every `wait` now, and those to come, and every retry, from any thread."""
        self._snapshots.ending = True
        self._watch.wake()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """End every wait and query, and let go of DuckDB; what is called afterwards raises SourceError.

        A call that goes on for `seconds` all the same keeps DuckDB open, and `closed` is False then: a
        process that ends under the call may end by a signal.
        """
        self.wake()
        self._watch.close()
        if self._session.calls.end(seconds):
            if self._passing is not None:
                self._passing.close()
            self._snapshots.close()
            self._session.close()
            self._tail_session.close()
            self.closed = True


class CountedReader:
    """A reader whose calls are counted; between two batches there is none."""

    def __init__(self, reader: TailingReader, calls: Calls) -> None:
        self._reader = reader
        self._calls = calls

    def __repr__(self) -> str:
        return repr(self._reader)

    def read(self, after: Mark | None, limits: BatchLimits) -> Iterator[Batch]:
        """See `TailingReader.read`."""
        return self._calls.each(self._reader.read(after, limits))

    def acknowledged(self, batch: Batch) -> None:
        """See `SnapshotReader.acknowledged`."""
        self._reader.acknowledged(batch)

    def rows_behind(self, after: Mark | None) -> int:
        """See `SnapshotReader.rows_behind`."""
        with self._calls.call():
            return self._reader.rows_behind(after)

    def unseen_before_send(self) -> Unseen | None:
        """See `TailingReader.unseen_before_send`."""
        return self._reader.unseen_before_send()

    def digests_before_send(self) -> bytes | None:
        """See `TailingReader.digests_before_send`."""
        return self._reader.digests_before_send()

    def digests_after_acknowledgement(self) -> bytes | None:
        """See `TailingReader.digests_after_acknowledgement`."""
        with self._calls.call():
            return self._reader.digests_after_acknowledgement()

    @property
    def position(self) -> Position | None:
        """See `TailingReader.position`."""
        return self._reader.position if isinstance(self._reader, TailingReader) else None

    @property
    def learning(self) -> bool:
        """See `TailingReader.learning`."""
        return self._reader.learning

    def close(self) -> None:
        with self._calls.call(last=True):
            self._reader.close()


def open_source(
    path: Path | str,
    *,
    memory_limit_mb: int = 512,
    threads: int = 2,
    encryption_key: str | None = None,
    direct: bool | None = None,
    spill: Path | None = None,
    max_skew_seconds: float = DEFAULT_SKEW_SECONDS,
    poll_seconds: float = DEFAULT_POLL_SECONDS,
    tailing: bool = True,
    not_followed: str | None = None,
    deletes: bool = False,
    decode_check_percent: float | None = CHECK_PERCENT,
    events: SourceEvents | None = None,
    eras: Eras | None = None,
    clock: Clock | None = None,
) -> DuckDbSource:
    """Open the DuckDB file at `path` for reading, whether or not a writer holds it.

    Args:
        memory_limit_mb: of the DuckDB that reads snapshots; the one that decodes the log has half as
            much besides.
        direct: open the file through DuckDB itself, for as long as a read takes and only while no writer
            holds it; False reads beside the writer. None chooses: direct on Windows, where a writer does
            not share its file.
        spill: the directory where reading may put what does not fit into its memory; without one it must fit.
        max_skew_seconds: how far past now a time watermark may lie and still move the mark.
        poll_seconds: the longest pause between two looks at the file, should its directory not notify.
        tailing: follow the log, beside snapshots; False reads snapshots alone, as of a log that cannot be.
        not_followed: why the log is not to be followed: `events` are told, as of a log that cannot be.
        deletes: hand out deleted rows too; only the log tells of them.
        decode_check_percent: of rounds of the log that our own decoder and DuckDB both decode; None: DuckDB
            decodes all of them alone.
        events: is told what happens while tables are read.
        eras: counts the stretches of the file's history on, from run to run, so that rows that are read later
            have greater versions whatever the file does. None: from a number that grows with the time of day.

    Raises:
        SourceError: there is no such file, it is no DuckDB database, or a newer one.
    """
    clock = clock or SystemClock()
    pinner = Pinner(Path(path), clock, eras)
    events = events or NoEvents()
    use_direct = sys.platform == "win32" if direct is None else direct
    session = Session(
        SessionLimits(memory_limit_mb, threads),
        encryption_key,
        failed=events.duckdb_failed,
        spill=spill,
        opens=pinner.path if use_direct else None,
    )
    # Of one thread: a round has few rows, and handing them to another thread takes the writer's core for it.
    tail_session = Session(
        SessionLimits(max(memory_limit_mb // 2, _LEAST_MB), threads=1, optimizers=SMALL_STATEMENTS),
        encryption_key,
        session.calls,
        events.duckdb_failed,
        spill=spill,
    )
    snapshots = Snapshots(pinner, session, clock, events, direct=use_direct)
    watch = Watch(pinner, clock, poll_seconds)
    if use_direct:
        not_followed = not_followed or "the file is read only while no writer holds it"
    elif not tailing:
        not_followed = not_followed or "it was asked not to be followed"
    passing = passing_logs(Path(pinner.log_path)) if not_followed is None else None
    return DuckDbSource(
        pinner,
        session,
        tail_session,
        snapshots,
        watch,
        passing,
        clock,
        events,
        max_skew_seconds=max_skew_seconds,
        not_followed=not_followed,
        deletes=deletes,
        decoding=Decoding(
            decode_check_percent or 0.0, events.decoder_mismatch, enabled=decode_check_percent is not None
        ),
    )
