"""The frozen values that travel between the packages: tables, positions, marks and batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:  # loaded by who reads or sends rows; the other values serve commands that start at once
    import pyarrow as pa

_CLOCK = 1 << 63
"""Set in every version: it is greater than each that a position made before there were eras."""
_ERA_BITS = 31
_OFFSET_BITS = 36
"""64 GiB of log between two checkpoints,"""
_OFFSET_STEP_BITS = 4
"""of which 16 bytes make no version of their own: two commits end further apart."""
LAST_ERA = (1 << _ERA_BITS) - (1 << 20)
"""No era is taken past it: a version there is nobody's of this program, and cannot be outranked."""


@dataclass(frozen=True, slots=True, order=True)
class TableId:
    """A table of the source, by schema and name, as DuckDB spells them."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def folded(self) -> tuple[str, str]:
        """Equal for names that are one name to DuckDB, which knows no case in them."""
        return self.schema.lower(), self.name.lower()

    @classmethod
    def parse(cls, text: str, default_schema: str = "main") -> Self:
        """`schema.table` or `table`; names that contain a dot are not expressible and are refused.

        Raises:
            ValueError: if `text` is not one or two non-empty names.
        """
        parts = text.split(".")
        if len(parts) > 2 or not all(parts):
            raise ValueError(f"{text!r} is not a table name; write 'table' or 'schema.table'")
        return cls(*parts) if len(parts) == 2 else cls(default_schema, parts[0])


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the source. `type` is DuckDB's own spelling: `DECIMAL(18,6)`, `STRUCT(a INTEGER)[]`."""

    name: str
    type: str
    nullable: bool = True
    collation: str = ""
    """Of a VARCHAR, by which DuckDB compares its values; empty: by their bytes, as everything else does."""
    generated: str | None = field(default=None, compare=False)
    """The expression that DuckDB computes it by, over the table's other columns; None: it is stored. File and
    log hold stored columns alone, and number those; whoever selects it reads it as any other."""


def free_name(name: str, taken: Iterable[str]) -> str:
    """`name`, or one like it that none of `taken` is, whatever its case: DuckDB tells names apart without."""
    lower = {each.lower() for each in taken}
    while name.lower() in lower:
        name += "_"
    return name


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A source table's columns in order, and its primary key (empty when it has none)."""

    table: TableId
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    """Columns that a constraint keeps unique together, none of which may be NULL; also the primary key."""

    def column(self, name: str) -> Column | None:
        """The column of this name, or None."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a source's history: its era, the checkpoint iteration, the bytes of log after it.

    An era ends with the log, and wherever the file's history is not the continuation of what was seen. Each
    is greater than all before, so positions are a clock that only grows, whatever the file does: a row read
    at a later position is at least as new. That makes them the versions of rows.
    """

    era: int
    """0: of a time before eras were counted, or of a place that nobody knows; it is before everything."""
    iteration: int
    offset: int
    proof: int | None = field(default=None, compare=False)
    """64 bits of what the file and its log hold up to here; None: there is no telling."""

    def as_version(self) -> int:
        """This position as one UInt64 that keeps the order.

        Raises:
            OverflowError: if a part does not fit (see `LAST_ERA`).
        """
        if self.offset >> _OFFSET_BITS or self.era >> _ERA_BITS:
            raise OverflowError(f"position {self} does not fit a 64-bit version")
        return _CLOCK | self.era << (_OFFSET_BITS - _OFFSET_STEP_BITS) | self.offset >> _OFFSET_STEP_BITS

    def __str__(self) -> str:
        return f"{self.era}:{self.iteration}:{self.offset}"

    def to_text(self) -> str:
        """All of it, to be stored."""
        return str(self) if self.proof is None else f"{self}:{self.proof:016x}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `to_text` and of `str`; an `iteration:offset` of before there were eras is of era 0.

        Raises:
            ValueError: if `text` is none of these.
        """
        parts = text.split(":")
        match parts:
            case [iteration, offset]:
                return cls(0, int(iteration), int(offset))
            case [era, iteration, offset]:
                return cls(int(era), int(iteration), int(offset))
            case [era, iteration, offset, proof]:
                return cls(int(era), int(iteration), int(offset), int(proof, 16))
        raise ValueError(f"not a position: {text!r}")


UNREACHABLE = Position(LAST_ERA, 0, 0).as_version()
"""The first of the versions that no position has and none can outrank."""
NOWHERE = Position(0, 0, 0)
"""Where a table stands of which something was delivered, and nobody knows what."""


def era_of(version: int) -> int:
    """The era of a version; of one that no position made, the last whose versions are not greater."""
    return (version & (_CLOCK - 1)) >> (_OFFSET_BITS - _OFFSET_STEP_BITS) if version & _CLOCK else 0


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a table has been delivered: a watermark value, with the key as tie-break.

    Values are DuckDB's own text of them (`CAST(x AS VARCHAR)` with TimeZone = 'UTC'), which is lossless for
    every type that may be a watermark; their order is the column type's, never the text's. This type does not
    compare: `cdc.watermark` does, knowing the type.
    """

    watermark: str
    key: tuple[str, ...]

    def to_json(self) -> str:
        return json.dumps([self.watermark, *self.key])

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`.

        Raises:
            ValueError: if `text` was not written by `to_json`.
        """
        values = json.loads(text)
        if not (isinstance(values, list) and values and all(isinstance(value, str) for value in values)):
            raise ValueError(f"not a mark: {text!r}")
        return cls(values[0], tuple(values[1:]))


@dataclass(frozen=True, slots=True)
class Unseen:
    """Changes of a table that its reader may not have seen: source and target are to be compared."""

    reason: str
    urgent: bool = True
    """The log did not show all that was committed. False: it did, as far as that shows, but that a commit
    went by it cannot be excluded. That is compared at leisure, and not remembered."""


@dataclass(frozen=True, slots=True)
class Completion:
    """When the rows of a group may be delivered: together, once the group is complete. [F8]"""

    group: str
    """The column whose equal values make a group; rows without a value are of none."""
    condition: str
    """A SQL aggregate over a group's waiting rows, from the configuration: true when it is complete."""
    max_age_seconds: float
    """After it a group is delivered as it is,"""
    max_rows: int
    """and so is the oldest one while more rows,"""
    max_bytes: int
    """or bytes of Arrow buffers, wait."""


@dataclass(frozen=True, slots=True)
class TablePlan:
    """What to replicate of one table, resolved from the configuration and the source's schema.

    `columns` are those delivered, in order; key, watermark and version columns are always among them.
    """

    table: TableId
    target: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    watermark: Column
    version: str | None = None
    """The source column by which, of several rows of one key, the target is to show the one with the greatest
    value. What a row's version is in the target, it does not say: that is the position it was read at."""
    filter: str | None = None
    """A SQL condition over the table's columns, from the configuration."""
    overlap: str = "0"
    """How far each read goes back, in the watermark's unit: a count for numbers, `5s`-like for times."""
    completion: Completion | None = None
    unique_key: bool = True
    """A constraint of the source says that each key has one row; else it may have several."""

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def free_name(self, name: str) -> str:
        """`name`, or one like it that is none of the delivered columns."""
        return free_name(name, self.column_names)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one table in watermark order, read at one position of the source.

    `rows` holds exactly the plan's columns, in order. `versions` is a UInt64 array of the same length.
    `deleted` is a Boolean array of the same length, or None when no row is a deletion. `mark` is where the
    table stands once this batch is delivered: never behind the mark it was read after, and None when the
    batch holds only rows that do not move it. `position` is how far the source's history is delivered with
    it: every change up to there is in this batch or before it; None for rows that were read long ago.
    `seen_at` is when the change was noticed (monotonic seconds).
    """

    plan: TablePlan
    rows: pa.RecordBatch
    versions: pa.UInt64Array
    mark: Mark | None
    position: Position | None
    seen_at: float
    deleted: pa.BooleanArray | None = None

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @property
    def nbytes(self) -> int:
        """Bytes of the Arrow buffers."""
        return int(self.rows.nbytes)

    def slice(self, offset: int, length: int) -> Batch:
        """The rows from `offset`; it moves the mark only if it holds the last row."""
        last = offset + length >= len(self)
        return Batch(
            plan=self.plan,
            rows=self.rows.slice(offset, length),
            versions=self.versions.slice(offset, length),
            mark=self.mark if last else None,
            position=self.position,
            seen_at=self.seen_at,
            deleted=None if self.deleted is None else self.deleted.slice(offset, length),
        )


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is full: whichever comes first."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row that cannot be loaded as it is, with enough to show, retry or discard it."""

    key: tuple[str, ...]
    watermark: str | None
    reason: str
    payload: bytes
    """The row as an Arrow IPC stream of one record batch of one row, with the plan's columns."""
    version: int
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch as one block, whole, ready to send; `rejected` rows are not in it."""

    block: object
    rows: int
    nbytes: int
    token: str
    """The insert's deduplication token: the same for the same table, rows and content."""
    rejected: tuple[FailedRow, ...] = ()


def schema_version(plan: TablePlan) -> str:
    """A digest of what is replicated: columns with their types, key and version column. [R10]"""
    described = [[column.name, column.type] for column in plan.columns]
    text = json.dumps([described, plan.key, plan.watermark.name, plan.version])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
