"""What the replicator needs of its source, target, marks and observer: nothing more than these."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cdc.change import (
    Batch,
    BatchLimits,
    Encoded,
    FailedRow,
    Mark,
    Position,
    TableId,
    TablePlan,
    TableSchema,
    Unseen,
)
from cdc.errors import CdcError
from cdc.replicator.hold_decision import Early, Waiting
from cdc.replicator.limits import MemoryUse
from cdc.sighting import Sighting
from cdc.stored import Decision, Held, Spooled, SpoolEntry, TableProgress


class TableReader(Protocol):
    """Reads one table in watermark order. Not thread safe; it is used by one thread."""

    def read(self, after: Mark | None, limits: BatchLimits) -> Iterator[Batch]:
        """Rows committed and not yet acknowledged, past `after` less the overlap, in batches within `limits`.

        A row already acknowledged in its present state is not repeated within this reader's life. The
        iterator ends when the newest snapshot has no more rows. A superseded snapshot is retried inside.

        Raises:
            SourceError: the source cannot be read, or its table no longer matches the plan.
            HistoryBroken: the table is to be read from its beginning, by another reader.
        """
        ...

    def acknowledged(self, batch: Batch) -> None:
        """`batch` is in the target: its rows need not be read again while they stay as they are."""
        ...

    def rows_behind(self, after: Mark | None) -> int:
        """Rows of the newest snapshot past `after`, for the status."""
        ...

    def unseen_before_send(self) -> Unseen | None:
        """What may have gone unseen since this was asked last; to be remembered before anything more is sent
        or stored. None: nothing."""
        ...

    def digests_before_send(self) -> bytes | None:
        """Digests to be stored before the batch handed out last is sent; None: there are none."""
        ...

    def digests_after_acknowledgement(self) -> bytes | None:
        """Digests to be stored now that everything handed out is acknowledged; None: nothing is new."""
        ...

    @property
    def position(self) -> Position | None:
        """Up to where everything is handed out after a read that came to its end; None: that is not known."""
        ...

    @property
    def learning(self) -> bool:
        """`digests_after_acknowledgement` is to be called again soon, also if nothing is committed."""
        ...

    def close(self) -> None: ...


class Source(Protocol):
    """The DuckDB file."""

    @property
    def identity(self) -> str:
        """Names the database at the path: other bytes at the same path have another identity."""
        ...

    def tables(self) -> Sequence[TableSchema]:
        """Every table of the newest snapshot."""
        ...

    def position(self) -> Position:
        """The newest committed position, from headers alone."""
        ...

    def open(
        self, plan: TablePlan, since: Position | None = None, digests: bytes | None = None
    ) -> TableReader:
        """A reader of one table.

        Args:
            since: the last delivered batch's position, from where changes of older rows are looked for; one
                that is not a place in the source's present history is no different from `NOWHERE`.
            digests: what a reader of the table gave to be stored last.

        Raises:
            HistoryBroken: the table is to be read from its beginning.
        """
        ...

    def outrank(self, version: int) -> Position:
        """The newest committed position, of a greater version than `version`, as all later ones then are."""
        ...

    def wait(self, since: Position, timeout_seconds: float) -> Position:
        """Wait until the position differs from `since`, and answer it; `since` itself if the time passed or
        `wake` was called."""
        ...

    def nudge(self) -> None:
        """End every `wait` that is under way, from any thread."""
        ...

    def wake(self) -> None:
        """End every `wait` now and those to come, from any thread."""
        ...

    def close(self) -> None: ...


class TargetTable(Protocol):
    """One table of ClickHouse, over a connection of its own.

    `encode` and `send` may be called by two threads at once, each of them by one at a time.
    """

    def encode(self, batch: Batch) -> Encoded:
        """Encode the whole batch; rows with a value the target's type cannot hold come back as rejected."""
        ...

    def send(self, encoded: Encoded) -> None:
        """Insert the block; returns once ClickHouse acknowledged it.

        Raises:
            TargetError: with the meaning retry, poison or stop.
        """
        ...

    def close(self) -> None: ...


class Target(Protocol):
    """The ClickHouse server."""

    def open(self, plan: TablePlan, generation: int = 0) -> TargetTable:
        """Check that the table exists as the plan needs it (or create it where the configuration allows).

        Args:
            generation: changes when rows are sent again on purpose; it sets their tokens apart.

        Raises:
            TargetError: naming the difference, and the command that mends it.
        """
        ...

    def sightings(self, plans: Sequence[TablePlan]) -> Mapping[TableId, Sighting | None]:
        """What the server in use says of the tables of these plans; None of one that is not there.

        Raises:
            TargetError: no server answers.
        """
        ...

    def newest_version(self, plan: TablePlan) -> int | None:
        """The greatest version in the plan's table; None where it has no row.

        Raises:
            TargetError: it cannot be read; `not_allowed` where that is for want of a right.
        """
        ...

    def ping(self) -> float:
        """Round-trip time in seconds.

        Raises:
            TargetError: the server does not answer.
        """
        ...

    def close(self) -> None: ...


class DueRow(Protocol):
    """A stored failed row that is to be tried again."""

    @property
    def id(self) -> int: ...
    @property
    def row(self) -> FailedRow: ...


class Marks(Protocol):
    """The watermark store, bound to one source identity, while the lease is held."""

    def describe(self, plan: TablePlan) -> None:
        """Say which columns the table's mark is of; before it is loaded.

        Raises:
            StateError: the stored mark is of other columns.
        """
        ...

    def load(self, table: TableId) -> TableProgress: ...

    def held(self, table: TableId) -> Held:
        """The rows that wait for their group to be complete."""
        ...

    def commit(self, decision: Decision) -> int:
        """Store `decision` in one durable transaction; answers how many failed rows it mended.

        Raises:
            StateError: it was not stored; nothing of it was.
        """
        ...

    def note_unseen(self, table: TableId, reason: str) -> None:
        """Remember, durably, that source and target are to be compared.

        Raises:
            StateError: it is not remembered.
        """
        ...

    def remember(self, table: TableId, digests: bytes, position: Position | None = None) -> None:
        """Store what the table's reader knows the target to hold, and up to where everything is delivered, in
        one durable transaction.

        Raises:
            StateError: it was not stored.
        """
        ...

    def spooled(self, table: TableId) -> Spooled:
        """What of the table waits in the spool.

        Raises:
            StateError: the store cannot be read.
        """
        ...

    def chunk(self, table: TableId, number: int) -> Sequence[SpoolEntry]:
        """The entries of one chunk, in order.

        Raises:
            StateError: the store cannot be read.
        """
        ...

    def append(self, table: TableId, entries: Sequence[SpoolEntry]) -> None:
        """Store entries durably at the end of the table's spool, but for those whose chunk was committed.

        Raises:
            StateError: nothing of it was stored.
        """
        ...

    def discard(self, table: TableId, ids: Sequence[int]) -> None:
        """Forget entries; those left move the mark no more, for what is gone is to be read again.

        Raises:
            StateError: nothing of it was stored.
        """
        ...

    def shrink(self) -> None:
        """Give the disk back what a delivered spool took.

        Raises:
            StateError: the store cannot be written.
        """
        ...

    def restart(self, table: TableId) -> None:
        """Forget mark and position of the table, and what it was delivered to: every row is to be delivered
        again. Load it after this.

        Raises:
            StateError: the store cannot be written.
        """
        ...

    def moved(self) -> Collection[TableId]:
        """The tables whose mark was moved by hand since they were loaded: to be loaded again.

        Raises:
            StateError: the store cannot be read.
        """
        ...

    def deliver_to(self, table: TableId, known: str) -> None:
        """Store which table of the target the rows go to (see `cdc.sighting.Known`), before any goes there.

        Raises:
            StateError: it was not stored.
        """
        ...

    def hasten(self, table: TableId) -> None:
        """Make all failed rows of the table due now.

        Raises:
            StateError: the store cannot be written.
        """
        ...

    def check_lease(self) -> None:
        """See that this replicator is still the one, before it begins an insert.

        Raises:
            LeaseHeld: it is not; nothing may be sent or stored any more.
            StateError: the store cannot be read.
        """
        ...

    def due(self, table: TableId, limit: int) -> Sequence[DueRow]:
        """Failed rows of the table whose next attempt is due, the longest due first."""
        ...

    def retried(self, delivered: Iterable[int], failed: Mapping[int, str]) -> None:
        """Store what became of due rows: the ids delivered, and why the others failed again.

        Raises:
            StateError: nothing of it was stored.
        """
        ...


@dataclass(frozen=True, slots=True)
class Delivered:
    """A batch was acknowledged by the target and its mark stored."""

    table: TableId
    target: str
    rows: int
    bytes: int
    failed_rows: int
    mark: Mark | None
    position: Position | None
    lag_seconds: float
    """From noticing the change to the acknowledgement."""
    encode_seconds: float
    send_seconds: float


@dataclass(frozen=True, slots=True)
class Spooling:
    """What of a table waits in the spool."""

    rows: int
    bytes: int
    since: float | None
    """When the oldest of the changes was noticed, seconds since 1970; None: nothing waits."""
    share: float
    """Of the room of all spools of the source that is taken."""


class Observer(Protocol):
    """Told what happens; must not raise and must not block."""

    def delivered(self, event: Delivered) -> None: ...

    def cycle(self, table: TableId, rows_behind: int | None) -> None:
        """A read found nothing more (`rows_behind` 0), or was counted; None: unknown."""
        ...

    def state(self, table: TableId, state: str, error: CdcError | None = None) -> None:
        """A table changed state: setup, snapshot, running, paused, resync, failed."""
        ...

    def retried(self, table: TableId, error: CdcError, attempt: int, delay_seconds: float) -> None: ...

    def unseen_noted(self, table: TableId, unseen: Unseen) -> None:
        """Changes may have gone unseen; what is urgent is remembered by now."""
        ...

    def held(self, table: TableId, waiting: Waiting) -> None:
        """So many rows now wait for their group to be complete."""
        ...

    def delivered_early(self, table: TableId, early: Early) -> None:
        """Groups were delivered although they are not complete."""
        ...

    def spooled(self, table: TableId, spooling: Spooling) -> None:
        """So much now waits in the spool, for the target is away."""
        ...

    def spool_discarded(self, table: TableId, rows: int, reason: str) -> None:
        """Rows of the spool were dropped, and are read again as far as the source still has them."""
        ...

    def target_changed(self, table: TableId, what: str) -> None:
        """The target's table is not the one that rows were delivered to (`what` became of that one):
        everything is delivered again."""
        ...

    def measured(self, round_trip_seconds: float | None, memory: MemoryUse | None) -> None:
        """The target's round trip (None: it does not answer), and what memory is for (None: there is no
        limit)."""
        ...
