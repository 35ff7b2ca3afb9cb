"""The rows that some commits changed, as whoever reads the table gets to see them."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from cdc.change import Position, TableId
from cdc.errors import SourceError
from cdc.source.file.session import FATAL, READ_ERRORS
from cdc.source.file.snapshot import Stream
from cdc.source.quote import identifier
from cdc.source.tail.leaves import RowIds

_KEPT_QUERIES = 8


@dataclass(frozen=True, slots=True)
class RoundView:
    """The rows of a round, as they are now or as they were when they were deleted; until the next round."""

    position: Position
    cursor: duckdb.DuckDBPyConnection
    rows: str
    queries: Queries
    small: bool
    """They are few enough to be held all at once."""
    decoded: None = None
    types: Mapping[str, str] = field(default_factory=dict)

    def relation(self, _: TableId) -> str:
        return self.rows

    def stream(self, sql: str, parameters: Sequence[str], rows: int) -> Stream:
        """Raises:
        SourceError: the filter of the plan fails.
        duckdb.FatalException, duckdb.InternalException: DuckDB is of no more use; see `Tail.failed`.
        """
        return _streamed(self.cursor, sql, parameters, rows)

    def select(self, sql: str) -> tuple[pa.Table, dict[str, str]]:
        """All that `sql` selects, and its columns' types in DuckDB's spelling; cheaper for a text that was
        asked lately.

        Raises: as `stream`.
        """
        with _translated():
            return self.queries.run(sql)


class DecodedRows:
    """The rows of a round that were decoded without DuckDB, which gets to see them only where it is asked."""

    small = True

    def __init__(
        self,
        name: str,
        position: Position,
        cursor: duckdb.DuckDBPyConnection,
        decoded: pa.RecordBatch,
        types: Mapping[str, str],
    ) -> None:
        """`name` tells these rows from others of the round; `types` are their columns' in DuckDB's words."""
        self._name = f"cdc_decoded_{name}"
        self.position = position
        self.cursor = cursor
        self.decoded = decoded
        self.types = types
        self._registered = False

    @property
    def rows(self) -> str:
        if not self._registered:
            self.cursor.register(self._name, self.decoded)
            self._registered = True
        columns = (
            f"CAST({identifier(name)} AS {kind}) AS {identifier(name)}" for name, kind in self.types.items()
        )
        return f"(SELECT {', '.join(columns)} FROM {self._name})"

    def relation(self, _: TableId) -> str:
        return self.rows

    def stream(self, sql: str, parameters: Sequence[str], rows: int) -> Stream:
        """As `RoundView.stream`."""
        return _streamed(self.cursor, sql, parameters, rows)

    def select(self, sql: str) -> tuple[pa.Table, dict[str, str]]:
        """As `RoundView.select`."""
        with _translated():
            found = self.cursor.sql(sql)
            return found.to_arrow_table(), _types_of(found)


class Queries:
    """The last few SELECTs of one connection: asked again, DuckDB neither parses nor binds them beforehand,
    which is half of what a small one costs."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._known: OrderedDict[str, tuple[duckdb.DuckDBPyRelation, dict[str, str]]] = OrderedDict()

    def run(self, sql: str) -> tuple[pa.Table, dict[str, str]]:
        """The rows, and the columns' types."""
        if sql not in self._known:
            found = self._cursor.sql(sql)
            self._known[sql] = found, _types_of(found)
            if len(self._known) > _KEPT_QUERIES:
                self._known.popitem(last=False)
        self._known.move_to_end(sql)
        relation, types = self._known[sql]
        return relation.to_arrow_table(), types


def _streamed(cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[str], rows: int) -> Stream:
    with _translated():
        found = cursor.sql(sql, params=parameters)
        reader = found.to_arrow_reader(rows)
    return Stream(reader.schema, _types_of(found), _batches(reader))


def _types_of(relation: duckdb.DuckDBPyRelation) -> dict[str, str]:
    return dict(zip(relation.columns, map(str, relation.types), strict=True))


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    while True:
        with _translated():
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
        yield batch


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FATAL:
        raise
    except READ_ERRORS as error:
        problem = str(error).partition("\n")[0]
        raise SourceError("query", "the log", problem, "Correct the columns or the filter") from None


@dataclass(frozen=True, slots=True)
class Round:
    """What some commits did to the table; None where they did nothing of the kind."""

    position: Position
    changed: RoundView | DecodedRows | None = None
    """Rows inserted or updated, and not deleted."""
    removed: RoundView | DecodedRows | None = None
    """Rows deleted, and those that left the filter, unless their key is there again."""
    left: RoundView | DecodedRows | None = None
    """Of those, the ones whose key the table has still, outside the filter."""
    checkpointed: bool = False
    """A checkpoint came before: compare with a snapshot, for a commit may have bypassed the log."""
    unread: bool = False
    """Commits of a log before may have gone unseen."""
    touched: RowIds | None = None
    """The row ids updated and deleted, ascending."""
