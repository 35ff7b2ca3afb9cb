"""A kept in-memory DuckDB that snapshots, or the twins of the log, are attached to: opening one costs 16 ms.

It sets what all readers rely on: UTC, lossless Arrow types, a bound on memory, no extension from a network.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from cdc.errors import SourceError
from cdc.source.file.calls import Calls, closed
from cdc.source.file.filesystem import LiveFileSystem
from cdc.source.file.pin import Pin
from cdc.source.quote import identifier, literal

READ_ERRORS = (duckdb.Error, pa.ArrowException, OSError)
"""What reading through DuckDB may raise: its own errors, and those of the Arrow stream and the filesystem."""


FATAL = (duckdb.FatalException, duckdb.InternalException)
"""After these a DuckDB refuses everything."""


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


class Session:
    """A kept in-memory connection. Safe to use from several threads, each with a cursor of its own."""

    def __init__(
        self, limits: SessionLimits, encryption_key: str | None = None, calls: Calls | None = None
    ) -> None:
        """`calls` is shared by the sessions that are to be closed together."""
        self._limits = limits
        self._key = encryption_key
        self._lock = threading.Lock()
        self._files = LiveFileSystem()
        self.calls = calls or Calls()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self.generation = 0
        """How often DuckDB was started afresh: what was attached before is gone."""

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of one thread's own to the same in-memory database."""
        with self._lock:
            return self.calls.add(self._connected().cursor())

    def attach(self, pin: Pin, path: str | None = None) -> str:
        """Attach what `pin` shows, or the file at `path` itself, read-only; the database's name.

        Raises:
            SnapshotSuperseded: a checkpoint came in between.
            SourceError: DuckDB cannot read the database.
        """
        number, live_path = self._files.add(pin)
        name = f"source_{number}"
        options = ["READ_ONLY"]
        if pin.headers.encrypted:
            options += [f"ENCRYPTION_KEY {literal(self._required_key(pin))}"]
            options += [f"ENCRYPTION_CIPHER {literal(pin.headers.cipher or 'GCM')}"]
        try:
            with self.translated(pin, "attach"), self._lock:
                self._connected().execute(
                    f"ATTACH {literal(path or live_path)} AS {identifier(name)} ({', '.join(options)})"
                )
        except SourceError:
            self._files.remove(number)
            raise
        return name

    def detach(self, name: str) -> None:
        """Detach what `attach` named. The session starts afresh if DuckDB refuses: nothing may stay open."""
        with self._lock:
            try:
                if self._connection is not None:
                    self._connection.execute(f"DETACH DATABASE IF EXISTS {identifier(name)}")
            except duckdb.Error:
                self._let_go()
            self._files.remove(int(name.removeprefix("source_")))

    @contextmanager
    def translated(self, pin: Pin, operation: str, generation: int | None = None) -> Iterator[None]:
        """Turn what DuckDB raises within into what it means; `generation` tells which DuckDB, if not this.

        Whatever fails once the pin is superseded failed because of that: DuckDB then sees missing bytes, and
        reports them in many ways.

        Raises:
            SnapshotSuperseded, SourceError: instead of DuckDB's and Arrow's errors.
        """
        generation = self.generation if generation is None else generation
        try:
            with self.calls.call():
                yield
        except READ_ERRORS as error:
            if isinstance(error, FATAL):
                self.restart(generation)
            if self.calls.ended:
                raise closed() from None
            pin.verify()
            raise SourceError(operation, pin.path, self._without_key(str(error)), _remedy(error)) from None

    def restart(self, generation: int) -> None:
        """Start DuckDB afresh at the next use, unless that was done since `generation`; everything attached
        is gone. Other threads may be in calls of the one before: it ends with the last connection to it."""
        with self._lock:
            if generation == self.generation:
                self._let_go()

    def close(self) -> None:
        """Let go of DuckDB. What readers still hold of it keeps it open: it ends with the last of them."""
        with self._lock:
            self._let_go()
        for generation in range(self.generation):
            shutil.rmtree(self._spill(generation), ignore_errors=True)

    def _connected(self) -> duckdb.DuckDBPyConnection:
        if self.calls.ended:
            raise closed()
        if self._connection is None:
            connection = duckdb.connect(
                config={
                    "memory_limit": f"{self._limits.memory_mb}MB",
                    "threads": self._limits.threads,
                    "temp_directory": str(self._spill(self.generation)),
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "arrow_lossless_conversion": True,
                    "produce_arrow_string_view": False,
                    "preserve_insertion_order": False,
                }
            )
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            if (wanted := self._limits.optimizers) is not None:
                known = connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()
                others = ",".join(name for (name,) in known if name not in wanted)
                connection.execute(f"SET GLOBAL disabled_optimizers = {literal(others)}")
            connection.register_filesystem(self._files)
            self._connection = self.calls.add(connection)
        return self._connection

    def _let_go(self) -> None:
        """Without closing the connection: that would close those of all readers under their calls."""
        if self._connection is not None:
            self._connection = None
            self.generation += 1

    def _spill(self, generation: int) -> Path:
        return Path(tempfile.gettempdir()) / f"cdc-{os.getpid()}-{id(self):x}-{generation}"

    def _required_key(self, pin: Pin) -> str:
        if self._key is None:
            raise SourceError(
                "open",
                pin.path,
                "it is encrypted, and no key is given",
                "Put the key into [database] encryption_key in secrets.toml",
            )
        return self._key

    def _without_key(self, message: str) -> str:
        line = " ".join(message.split())
        return line.replace(literal(self._key), "'***'").replace(self._key, "***") if self._key else line


def _remedy(error: Exception) -> str:
    if isinstance(error, duckdb.OutOfMemoryException):
        return "Raise [performance] cache_size_mb"
    if isinstance(error, duckdb.BinderException | duckdb.CatalogException | duckdb.ParserException):
        return "Correct the columns, the filter or the query"
    return "Check the file with DuckDB itself; restore it if it is damaged"
