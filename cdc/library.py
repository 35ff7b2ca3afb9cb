"""The library's face: a live DuckDB file to query and to follow, from another program in Python.

>>> import cdc
>>> with cdc.open_source("trades.duckdb") as database:
...     database.query("SELECT count(*) FROM trades")
...     for change in database.follow("trades", after=token):
...         handle(change.rows)
...         change.acknowledge()
...         token = change.token
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from cdc.change import Batch, BatchLimits, Mark, Position, TablePlan, TableSchema, schema_version
from cdc.errors import ConfigError, SnapshotSuperseded, SourceError
from cdc.replicator.plan import Overlaps, resolve_table
from cdc.replicator.requests import CompletionRequest
from cdc.source import DuckDbSource
from cdc.source import open_source as open_duckdb
from cdc.source.deadline import Deadline

TRIES = 50
"""Snapshots that checkpoints may supersede before a query gives up."""
IDLE_SECONDS = 1.0
"""The longest wait for a change before the file is looked at all the same."""
MOST_TOKEN_BYTES = 1 << 16
_TOKEN_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Change:
    """Rows of one table that were inserted, updated or deleted, in watermark order.

    Handle it, then call `acknowledge`: what is not acknowledged is handed out again. A program that ends
    goes on from the `token` of the last change it has handled; some rows may then come once more.
    """

    rows: pa.RecordBatch
    """The rows as they are now; of deleted ones, as they were."""
    deleted: pa.BooleanArray | None
    """Which of `rows` were deleted, or None when none was."""
    versions: pa.UInt64Array
    """A number for each row that grows with its history: of two states of a key, the greater one is newer."""
    position: Position | None
    """How far the source's history is handed out with this change."""
    token: str
    """Where to go on after this change, for `follow(after=...)`."""
    unseen: str | None
    """Why changes before this one may not have been handed out, or None. Compare your copy then."""
    _follower: _Follower = field(repr=False)
    _number: int

    def acknowledge(self) -> None:
        """This change is handled, and so is every one before it. For the thread that follows."""
        self._follower.acknowledge(self._number)


class Database:
    """An open DuckDB file, whether or not a writer holds it. A context manager."""

    def __init__(self, source: DuckDbSource) -> None:
        self._source = source

    def __repr__(self) -> str:
        return f"Database({self._source.path})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every query and every `follow`, from any thread."""
        self._source.close()

    @property
    def path(self) -> Path:
        """The file."""
        return self._source.path

    def tables(self) -> Sequence[TableSchema]:
        """Every table with its columns and its primary key.

        Raises:
            SourceError: the file cannot be read.
        """
        return self._source.tables()

    def query(self, sql: str, timeout: float | None = None) -> pa.Table:
        """The rows of one SELECT on the newest committed state. Names are looked up in the schema `main`.

        Args:
            timeout: seconds after which the query is interrupted.

        Raises:
            SourceError: the query is wrong, its time is over, or the file cannot be read.
        """
        deadline = Deadline(timeout)
        for _ in range(TRIES):
            try:
                with self._source.snapshot() as snapshot, deadline.running(snapshot):
                    return snapshot.query(sql).read_all()
            except SourceError as error:
                if (refusal := deadline.refusal()) is not None:
                    raise refusal from None
                if not isinstance(error, SnapshotSuperseded):
                    raise
        raise SourceError(
            "query",
            self.path,
            f"each of {TRIES} snapshots was superseded by a checkpoint before the query ended",
            "Ask for less at once, or raise the writer's checkpoint_threshold",
        )

    def follow(
        self,
        table: str,
        *,
        after: str | None = None,
        key: Sequence[str] | None = None,
        watermark: str | None = None,
        columns: Sequence[str] | None = None,
        filter: str | None = None,
        batch_rows: int = 10_000,
        wait: bool = True,
    ) -> Iterator[Change]:
        """Every change of `table`: first the rows that are there, then what is committed.

        Args:
            table: `name` or `schema.name`.
            after: the token of the last change handled; None: from the beginning.
            key: columns that name a row; None: the primary key.
            watermark: a column that grows; None: `seq`.
            columns: those handed out; None: all.
            filter: a SQL condition; a row that leaves it is handed out as deleted.
            batch_rows: rows of a change at most.
            wait: wait for commits; False ends when everything there is was handed out.

        Raises:
            ConfigError: the table cannot be followed as asked, or `after` is no token of it.
            SourceError: the file cannot be read, or is another database than the token's.
        """
        wish = _Wish(
            table,
            None if key is None else tuple(key),
            watermark or "seq",
            None if columns is None else tuple(columns),
            filter,
        )
        plan = resolve_table(wish, wish, self._source.tables(), Overlaps())
        return _Follower(self._source, plan, after, batch_rows).changes(wait=wait)


def open_source(
    path: Path | str, *, encryption_key: str | None = None, memory_limit_mb: int = 512, threads: int = 2
) -> Database:
    """Open the DuckDB file at `path`, which another process may be writing. Close it, or use it in `with`.

    The file is read without its lock, and nothing is ever written. Nothing is asked of its writer.

    Args:
        encryption_key: of an encrypted file, which is read in snapshots only.
        memory_limit_mb: of the DuckDB in memory that queries run in.
        threads: of the same.

    Raises:
        SourceError: there is no such file, or it is no DuckDB database that can be read.
    """
    return Database(
        open_duckdb(
            path,
            encryption_key=encryption_key,
            memory_limit_mb=memory_limit_mb,
            threads=threads,
            deletes=True,
        )
    )


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is asked of one table, in the shape of the configuration's [[tables]] and [defaults]."""

    name: str
    key: tuple[str, ...] | None
    watermark: str | None
    columns: tuple[str, ...] | None
    filter: str | None
    target: str | None = None
    version: str | None = None
    overlap: str | None = None
    exclude: Sequence[str] | None = None
    exclude_columns: Sequence[str] | None = None
    completion: CompletionRequest | None = None


class _Follower:
    """Follows one table for one caller, in its thread."""

    def __init__(self, source: DuckDbSource, plan: TablePlan, after: str | None, batch_rows: int) -> None:
        if batch_rows < 1:
            raise ConfigError("follow", plan.table, f"batch_rows is {batch_rows}", "Give at least 1")
        self._source = source
        self._plan = plan
        self._limits = BatchLimits(rows=batch_rows, bytes=64 << 20)
        self._mark, self._position = (None, None) if after is None else _opened(after, source, plan)
        """As far as was acknowledged."""
        self._reader = source.open(plan, self._position)
        self._pending: deque[tuple[int, Batch]] = deque()
        self._numbers = 0
        self._token_mark = self._mark
        self._unseen: str | None = None

    def changes(self, *, wait: bool) -> Iterator[Change]:
        try:
            while True:
                position = self._source.position()
                for batch in self._reader.read(self._mark, self._limits):
                    self._reader.digests_before_send()
                    self._note_unseen()
                    yield self._change(batch)
                self._note_unseen()
                if self._unseen is not None:
                    yield self._change(self._empty())
                if self._pending:
                    self._begin_again()
                    continue
                self._reader.digests_after_acknowledgement()
                if not wait and self._source.position() == position:
                    return
                self._source.wait(position, IDLE_SECONDS)
        finally:
            self._reader.close()

    def acknowledge(self, number: int) -> None:
        while self._pending and self._pending[0][0] <= number:
            _, batch = self._pending.popleft()
            self._reader.acknowledged(batch)
            self._mark, self._position = batch.mark or self._mark, batch.position or self._position

    def _begin_again(self) -> None:
        """Read what was not acknowledged once more."""
        self._reader.close()
        self._pending.clear()
        self._token_mark = self._mark
        self._reader = self._source.open(self._plan, self._position)

    def _change(self, batch: Batch) -> Change:
        self._numbers += 1
        if len(batch):
            self._pending.append((self._numbers, batch))
        self._token_mark = batch.mark or self._token_mark
        unseen, self._unseen = self._unseen, None
        return Change(
            rows=batch.rows,
            deleted=batch.deleted,
            versions=batch.versions,
            position=batch.position,
            token=_token(self._source, self._plan, self._token_mark, batch.position),
            unseen=unseen,
            _follower=self,
            _number=self._numbers,
        )

    def _note_unseen(self) -> None:
        found = self._reader.unseen_before_send()
        if found is not None:
            self._unseen = found.reason

    def _empty(self) -> Batch:
        schema = self._source.rows(self._plan, None, None).schema
        rows = pa.RecordBatch.from_pylist([], schema)
        return Batch(self._plan, rows, pa.array([], pa.uint64()), None, None, 0.0)


def _token(source: DuckDbSource, plan: TablePlan, mark: Mark | None, position: Position | None) -> str:
    said = [
        _TOKEN_FORMAT,
        source.identity,
        str(plan.table),
        schema_version(plan),
        None if mark is None else mark.to_json(),
        None if position is None else str(position),
    ]
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode()


def _opened(token: str, source: DuckDbSource, plan: TablePlan) -> tuple[Mark | None, Position | None]:
    """What `token` says; from the beginning where the columns are others than its own.

    Raises:
        ConfigError: it is no token of this table.
        SourceError: it is of another database.
    """
    try:
        if len(token) > MOST_TOKEN_BYTES:
            raise ValueError("too long")
        format_, identity, table, version, mark, position = json.loads(
            base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        )
        if format_ != _TOKEN_FORMAT or table != str(plan.table):
            raise ValueError("another table")
        found = (
            None if mark is None else Mark.from_json(mark),
            None if position is None else Position.parse(position),
        )
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise ConfigError(
            "go on after a token in", plan.table, "it is no token of this table", "Follow from the beginning"
        ) from None
    if identity != source.identity:
        raise SourceError(
            "go on in",
            source.path,
            f"the token is of the database {identity}, and this is {source.identity}",
            "Follow from the beginning, and replace your copy",
        )
    return found if version == schema_version(plan) else (None, None)
