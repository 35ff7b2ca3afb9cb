"""What is read from, and where a read stands: what readers of a table have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import duckdb
import pyarrow as pa

from cdc.change import BatchLimits, Mark, Position, TableId
from cdc.source.file.snapshot import Stream


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


@dataclass(frozen=True, slots=True)
class ReadState:
    """Where a read stands: the mark so far, and how batches are made."""

    mark: Mark | None
    limits: BatchLimits
    seen_at: float
