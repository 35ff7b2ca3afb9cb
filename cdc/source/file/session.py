"""A kept in-memory DuckDB that snapshots, or the twins of the log, are attached to: opening one costs 16 ms.

It sets what all readers rely on: UTC, lossless Arrow types, a bound on memory; and it reaches nothing
else (see `confined`).
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa

from cdc.errors import SnapshotSuperseded, SourceError
from cdc.source.file.calls import Calls, closed
from cdc.source.file.confined import confined
from cdc.source.file.pin import Pin
from cdc.source.file.pinned import files_of
from cdc.source.file.served import FILES, secret_name
from cdc.source.file.spill import new_spill
from cdc.source.quote import identifier, literal

READ_ERRORS = (duckdb.Error, pa.ArrowException, OSError)
"""What reading through DuckDB may raise: its own errors, and those of the Arrow stream and the filesystem."""


FATAL = (duckdb.FatalException, duckdb.InternalException)
"""After these a DuckDB refuses everything."""
_INVALIDATED = "database has been invalidated"
"""What it says then to whoever comes next: the failure was another's."""
MOST_FAILURES = 3
"""Failures of DuckDB by reads of an intact file within"""
FAILURE_SECONDS = 60.0
"""these seconds: the read that fails next is given up, for each ends what all others read too."""

Result = TypeVar("Result")


SMALL_STATEMENTS = frozenset(
    {
        "filter_pushdown",
        "unused_columns",
        "in_clause",
        "row_group_pruner",
        "join_order",
        "build_side_probe_side",
    }
)
"""The optimizers that statements over few rows gain by. All 46 take a quarter of the time of such a one."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds of an in-memory DuckDB."""

    memory_mb: int = 512
    threads: int = 2
    optimizers: frozenset[str] | None = None
    """Those it may use; None: all it has."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """An attached database."""

    name: str
    generation: int
    """The DuckDB it is attached to: cursors of another do not know it."""


class Session:
    """A kept in-memory connection. Safe to use from several threads, each with a cursor of its own.

    A DuckDB that has failed refuses everything. It is replaced then, and with it goes all that was made of
    it: connections, cursors, relations, what was attached. Whoever uses them learns of it by an error, which
    `translated` and `KeptCursor` turn into another attempt.
    """

    def __init__(
        self,
        limits: SessionLimits,
        encryption_key: str | None = None,
        calls: Calls | None = None,
        failed: Callable[[str], None] | None = None,
        *,
        spill: Path | None = None,
        opens: Path | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            calls: is shared by the sessions that are to be closed together.
            failed: is told why DuckDB was replaced.
            spill: where a directory is made for what does not fit into memory; without one it must fit.
            opens: the one file that may be attached itself.
        """
        self._limits = limits
        self._key = encryption_key
        self._lock = threading.Lock()
        self._spill = spill
        self._opens = opens
        self._spilled: list[Path] = []
        self.calls = calls or Calls()
        self._failed = failed
        self._failures: deque[float] = deque(maxlen=MOST_FAILURES)
        self._connection: duckdb.DuckDBPyConnection | None = None
        self.generation = 0
        """How often DuckDB was started afresh: what was attached before is gone."""

    def cursor(self, generation: int | None = None) -> duckdb.DuckDBPyConnection:
        """A connection of one thread's own to the same in-memory database.

        Raises:
            SnapshotSuperseded: that is not the one of the `generation` asked for any more.
        """
        return self.connect(generation)[0]

    def connect(self, generation: int | None = None) -> tuple[duckdb.DuckDBPyConnection, int]:
        """As `cursor`, with the generation that it is of."""
        while True:
            with self._lock:
                self._expect(generation)
                connection = self._connected()
                try:
                    return self.calls.add(connection.cursor()), self.generation
                except FATAL as error:
                    failed, reason = self.generation, str(error)
            self.restart(failed, reason)

    def attach(self, pin: Pin, path: str | None = None, generation: int | None = None) -> Attachment:
        """Attach what `pin` shows, or the file at `path` itself, read-only; to the DuckDB of `generation`, if
        it is said.

        Raises:
            SnapshotSuperseded: a checkpoint came in between, or that DuckDB was replaced.
            SourceError: DuckDB cannot read the database.
        """
        name = secret_name("source")
        options = ["READ_ONLY"]
        if pin.headers.encrypted:
            options += [f"ENCRYPTION_KEY {literal(self._required_key(pin))}"]
            options += [f"ENCRYPTION_CIPHER {literal(pin.headers.cipher or 'GCM')}"]
        with self._lock:
            current = self.generation
        translated = self.translated(pin, "attach", current if generation is None else generation)
        with translated, self._lock, FILES.serving(files_of(pin)) as served:
            self._expect(generation)
            current = self.generation
            place = literal(path or served + pin.path.name)
            self._connected().execute(f"ATTACH {place} AS {identifier(name)} ({', '.join(options)})")
        return Attachment(name, current)

    def detach(self, attached: Attachment) -> None:
        """Undo `attach`. The session starts afresh if DuckDB refuses: nothing may stay open."""
        with self._lock:
            refused: duckdb.Error | None = None
            try:
                if self._connection is not None and attached.generation == self.generation:
                    self._connection.execute(f"DETACH DATABASE IF EXISTS {identifier(attached.name)}")
            except duckdb.Error as error:
                refused = error
        if refused is not None:
            self.restart(attached.generation, str(refused))

    @contextmanager
    def translated(self, pin: Pin, operation: str, generation: int | None = None) -> Iterator[None]:
        """Turn what DuckDB raises within into what it means; `generation` tells which DuckDB, if not this.

        Whatever fails once the pin is superseded failed because of that: DuckDB then sees missing bytes, and
        reports them in many ways. What fails in a DuckDB that another read has ended is to be read again.

        Raises:
            SnapshotSuperseded, SourceError: instead of DuckDB's and Arrow's errors.
        """
        generation = self.generation if generation is None else generation
        try:
            with self.calls.call():
                yield
        except READ_ERRORS as error:
            if isinstance(error, FATAL):
                self.restart(generation, str(error))
            if self.calls.ended:
                raise closed() from None
            pin.verify()
            if self.replaced(generation, error):
                raise self._ended() from None
            raise SourceError(operation, pin.path, self._without_key(str(error)), _remedy(error)) from None

    def replaced(self, generation: int, error: Exception) -> bool:
        """Whether what failed by `error` is to be tried again: the DuckDB of `generation` has been replaced
        for what others did, or for the first few failures, which may have been as accidental."""
        if self.generation == generation:
            return False
        if not caused(error):
            return True
        now = time.monotonic()
        with self._lock:
            self._failures.append(now)
            return len(self._failures) < MOST_FAILURES or now - self._failures[0] > FAILURE_SECONDS

    def restart(self, generation: int, reason: str = "asked to") -> None:
        """Start DuckDB afresh at the next use, unless that was done since `generation`; everything attached
        is gone. Other threads may be in calls of the one before: it ends with the last connection to it."""
        with self._lock:
            if generation != self.generation:
                return
            self._let_go()
        if self._failed is not None:
            self._failed(self._without_key(reason.partition("Stack Trace")[0]))

    def close(self) -> None:
        """Let go of DuckDB. What readers still hold of it keeps it open: it ends with the last of them."""
        with self._lock:
            self._let_go()
        for directory in self._spilled:
            shutil.rmtree(directory, ignore_errors=True)

    def _expect(self, generation: int | None) -> None:
        if generation is not None and generation != self.generation:
            raise self._ended()

    def _ended(self) -> SnapshotSuperseded:
        return SnapshotSuperseded(
            "read", "the source", "DuckDB failed, and was started afresh", "Take a new snapshot"
        )

    def _connected(self) -> duckdb.DuckDBPyConnection:
        if self.calls.ended:
            raise closed()
        if self._connection is None:
            spill = None if self._spill is None else new_spill(self._spill)
            if spill is not None:
                self._spilled.append(spill)
            connection = confined(
                {
                    "memory_limit": f"{self._limits.memory_mb}MB",
                    "threads": self._limits.threads,
                    "arrow_lossless_conversion": True,
                    "produce_arrow_string_view": False,
                    "preserve_insertion_order": False,
                },
                spill=spill,
                encrypted=self._key is not None,
                opens=self._opens,
                optimizers=self._limits.optimizers,
            )
            self._connection = self.calls.add(connection)
        return self._connection

    def _let_go(self) -> None:
        """Without closing the connection: that would close those of all readers under their calls."""
        self._connection = None
        self.generation += 1

    def _required_key(self, pin: Pin) -> str:
        if self._key is None:
            raise SourceError(
                "open",
                pin.path,
                "it is encrypted, and no key is given",
                f"Write the key as {KEY}",
            )
        return self._key

    def _without_key(self, message: str) -> str:
        line = " ".join(message.split())
        return line.replace(literal(self._key), "'***'").replace(self._key, "***") if self._key else line


class KeptCursor:
    """One thread's connection, which outlasts the DuckDB that it is of."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection, self._generation = session.connect()

    def run(self, work: Callable[[duckdb.DuckDBPyConnection], Result]) -> Result:
        """What `work` answers, which may be called again: then nothing must be left of the time before.

        Raises:
            SourceError: DuckDB fails by this very work.
        """
        while True:
            if self._generation != self._session.generation:
                self._connection.close()
                self._connection, self._generation = self._session.connect()
            try:
                return work(self._connection)
            except FATAL as error:
                self._session.restart(self._generation, str(error))
                if not self._session.replaced(self._generation, error):
                    problem = str(error).partition("\n")[0]
                    raise SourceError("read", "the source", problem, _remedy(error)) from None

    def close(self) -> None:
        self._connection.close()


_WRONG_KEY = "Wrong encryption key"
"""What DuckDB says where the key does not fit the file (src/storage/single_file_block_manager.cpp)."""


def caused(error: Exception) -> bool:
    """Whether a DuckDB ended by what raised `error` itself, and not by something before it."""
    return isinstance(error, FATAL) and _INVALIDATED not in str(error)


KEY = (
    "master_key of [encryption] into secrets.toml beside the configuration (chmod 600), or into the "
    "environment as DUCKDB_ENCRYPTION_KEY"
)
"""Where the key of a file is to be written."""


def _remedy(error: Exception) -> str:
    if _WRONG_KEY in str(error):
        return f"Write the key that the writer encrypts it with as {KEY}; the file itself is whole"
    if isinstance(error, FATAL):
        return "Check the file with DuckDB itself; if it is sound, report this with the log"
    if isinstance(error, duckdb.OutOfMemoryException):
        return "Raise [performance] cache_size_mb"
    if isinstance(error, duckdb.BinderException | duckdb.CatalogException | duckdb.ParserException):
        return "Correct the columns, the filter or the query"
    return "Check the file with DuckDB itself; restore it if it is damaged"
