"""What does the state store keep of a table from run to run, and what does a batch change of it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cdc.change import FailedRow, Mark, Position, TableId

StoredDigests = bytes
"""Bytes that only the reader of a table reads; `TableProgress` has a field of the name of their type."""


@dataclass(frozen=True, slots=True)
class TableProgress:
    """What the store knows of one table."""

    mark: Mark | None = None
    position: Position | None = None
    """The last delivered batch's."""
    rows: int = 0
    bytes: int = 0
    batches: int = 0
    failed_rows: int = 0
    schema_version: str | None = None
    resets: int = 0
    """How often the mark was moved by hand: after it the same rows are other inserts."""
    digests: StoredDigests | None = None
    """What the source's reader knows the target to hold, as it gave it to be stored."""
    delivered_to: str | None = None
    """Which table of the target that is; see `cdc.sighting.Known`. None: not known."""
    rows_there: int = 0
    """Of `rows`, those delivered since the mark was last forgotten to deliver everything again."""


@dataclass(frozen=True, slots=True)
class HeldRows:
    """Rows of one group that wait for it to be complete, as they are stored."""

    group: str
    since: float
    """When the group's first row came, seconds since 1970."""
    rows: int
    payload: bytes
    """An Arrow IPC stream: the plan's columns, then each row's version as UInt64."""
    schema_version: str
    """Of the plan they were read by."""


@dataclass(frozen=True, slots=True)
class Held:
    """All that is stored of a table's held rows."""

    rows: tuple[HeldRows, ...] = ()
    """In the order they were parked."""
    delivered: tuple[tuple[str, float], ...] = ()
    """The groups remembered, each with when it was delivered in seconds since 1970, oldest first."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a delivery changes among the held rows, in the transaction that moves the mark past them."""

    parked: tuple[HeldRows, ...] = ()
    released: tuple[str, ...] = ()
    """Groups whose rows stored so far are no longer held: delivered, or parked anew."""
    delivered: tuple[str, ...] = ()
    """Groups delivered, to be remembered: a later change of one of their rows waits for nothing."""
    forgotten: tuple[str, ...] = ()
    """Groups delivered long ago."""


@dataclass(frozen=True, slots=True)
class SpoolEntry:
    """Rows that were read while the target was away, as they are stored until it takes them. [R4, R5]"""

    chunk: int
    """Entries of one chunk are delivered as one batch; chunks are delivered in ascending order."""
    rows: int
    payload: bytes | None
    """A packed batch; None: it was damaged in the store."""
    mark: Mark | None
    """Where the table stands once this is delivered, and where reading goes on from while it is not;
    None: it moves nothing."""
    position: Position | None
    schema_version: str
    """Of the plan the rows were read by."""
    at: float
    """When the oldest of the changes was noticed, seconds since 1970."""
    id: int = 0
    """Given by the store, in the order of appending."""


@dataclass(frozen=True, slots=True)
class SpoolChunk:
    """What is known of a chunk without its rows."""

    number: int
    rows: int
    bytes: int
    """As stored."""
    at: float
    schema_version: str


@dataclass(frozen=True, slots=True)
class Spooled:
    """What the store has of one table's spool."""

    chunks: tuple[SpoolChunk, ...] = ()
    """In the order of delivery."""
    mark: Mark | None = None
    position: Position | None = None
    """Of the last entries that have one: how far the table has been read."""
    next_chunk: int = 1
    """No chunk has had this number, or one above it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Everything one batch decided; stored in one transaction."""

    table: TableId
    mark: Mark | None
    """None: the mark stays where it is."""
    rows: int
    bytes: int
    position: Position | None
    """None: it stays where it is."""
    schema_version: str
    failed: tuple[FailedRow, ...] = ()
    holding: Holding = Holding()
    chunk: int | None = None
    """The number of the batch: the chunk of the spool that has it, if one has, is removed."""
    delivered: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    """Keys that the target has taken, each with the newest version, where rows of the table are set aside:
    those of these keys and no newer version are forgotten."""
