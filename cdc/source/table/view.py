"""What is read from, and where a read stands: what readers of a table have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import duckdb
import pyarrow as pa

from cdc.change import BatchLimits, Mark, Position, TableId, TablePlan
from cdc.errors import SnapshotSuperseded
from cdc.source.file.snapshot import Snapshot, Stream

Result = TypeVar("Result")


class View(Protocol):
    """Rows of the table as of one position, to be selected with DuckDB: a snapshot's, or a tail round's."""

    @property
    def position(self) -> Position: ...
    @property
    def cursor(self) -> duckdb.DuckDBPyConnection: ...
    def relation(self, table: TableId) -> str:
        """What stands for the table after FROM."""
        ...

    def stream(self, sql: str, parameters: Sequence[str], rows: int) -> Stream:
        """What `sql` selects, in record batches of at most `rows`."""
        ...


class RoundRows(View, Protocol):
    """The rows of a tail's round."""

    @property
    def decoded(self) -> pa.RecordBatch | None:
        """The rows themselves, with all the table's columns, where DuckDB was not asked for them."""
        ...

    @property
    def types(self) -> Mapping[str, str]:
        """Of their columns, in DuckDB's spelling; of decoded rows alone."""
        ...

    @property
    def small(self) -> bool:
        """They are few enough to be held all at once."""
        ...

    def select(self, sql: str) -> tuple[pa.Table, dict[str, str]]:
        """All that `sql` selects, and the columns' types in DuckDB's spelling."""
        ...


class TakesSnapshots(Protocol):
    """Gives out snapshots; see `Snapshots`."""

    def take(self) -> Snapshot: ...

    def run(self, work: Callable[[Snapshot], Result]) -> Result: ...

    def overtaken(self, error: SnapshotSuperseded) -> None: ...


class KnowsRepeatedKeys(Protocol):
    """Knows whether keys have several rows; see `RepeatedKeys`."""

    def known(self, plan: TablePlan) -> bool: ...

    def count(self, plan: TablePlan) -> None: ...

    def noticed(self, plan: TablePlan, key: tuple[str, ...]) -> None: ...


@dataclass(frozen=True, slots=True)
class ReadState:
    """Where a read stands: the mark so far, and how batches are made."""

    mark: Mark | None
    limits: BatchLimits
    seen_at: float
