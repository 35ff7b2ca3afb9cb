"""One SQLite file, opened so that a commit is durable, and what its errors mean.

WAL mode with synchronous FULL: a commit is on the disk when it returns, and other processes read meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from cdc.closing import Closing
from cdc.errors import Meaning, StateError
from cdc.private import open_private, private_directory
from cdc.state import schema


class StoreDamaged(StateError):
    """The file is not what was written to it; it can only be set aside."""


Mode = Literal["create", "write", "read"]

BUSY_SECONDS = 5.0
"""How long a statement waits for another process's transaction; ours last milliseconds."""
JOURNAL_BYTES = 16 << 20
"""What SQLite's own log is cut back to after a burst."""
INCREMENTAL = 2
"""The `auto_vacuum` in which free pages can be given back when it suits."""
FREE_PAGES = 256
"""Pages, of 4 kB, that may stay free in the file,"""
SHRINK_PAGES = 2048
"""and how many are given back at a time: some 40 ms, in which nobody can commit."""


class Database(Closing):
    """The store's file and one connection, which threads take in turn. A context manager."""

    def __init__(self, path: Path, mode: Mode, failed_table: str) -> None:
        """Open the file; "create" makes or updates it, and checks the whole of an existing one.

        Raises:
            StateError: if it is missing, damaged, of another version, or may not be opened.
            ConfigError: if `failed_table` cannot be a name.
        """
        schema.check_failed_table(failed_table)
        self.path = path
        self.created = False
        """Whether this opening made the store: nothing was known before."""
        self._lock = threading.RLock()
        self._read_only = mode == "read"
        if mode == "create":
            _create(path)
        elif not path.exists():
            raise StateError(
                "open the state store",
                path,
                "there is none",
                "Start 'cdc run' once, or 'cdc watermark rebuild' if it was lost; check [state] directory",
            )
        with self._translated("open"):
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if self._read_only else 'rw'}",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,  # transactions are begun and ended here alone
                check_same_thread=False,
            )
        try:
            with self._translated("open"):
                self._prepare(failed_table, create=mode == "create")
        except BaseException:
            self._connection.close()
            raise

    def __repr__(self) -> str:
        return f"Database({self.path})"

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def define(self, name: str, function: Callable[[int], float]) -> None:
        """Let statements call `function` of one integer by this name."""
        self._connection.create_function(name, 1, function, deterministic=True)

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of one reading statement.

        Raises:
            StateError: the store cannot be read.
        """
        with self._lock, self._translated("read"):
            return self._connection.execute(sql, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is committed durably at the end of the block, or leaves nothing behind.

        Raises:
            StateError: it was not stored; nothing of it was.
        """
        with self._lock, self._translated("write"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have rolled it back already
                    with suppress(sqlite3.Error):  # the first error is the one to show
                        self._connection.execute("ROLLBACK")
                raise

    def shrink(self) -> None:
        """Give the pages that are free in the file back to the file system.

        Raises:
            StateError: the store cannot be written.
        """
        while True:
            with self._lock, self._translated("write"):
                (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
                if free <= FREE_PAGES:
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                    return
                before = free
                # Not `execute`, which does one page: the pragma gives back one with each of its steps.
                self._connection.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")
                (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
            if free >= before:  # a file of an older version that could not be rewritten
                return

    def _prepare(self, failed_table: str, *, create: bool) -> None:
        connection = self._connection
        version = schema.check_version(connection, str(self.path))
        if not self._read_only:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise sqlite3.OperationalError(f"the file system does not allow WAL mode (it is {mode})")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        if not create:
            if version < schema.VERSION:
                raise _outdated(self.path, version)
            return
        if version:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise _damaged(self.path, found)
        self._make_shrinkable()
        if schema.up_to_date(connection, version, failed_table):
            return
        with self.transaction():
            version = schema.check_version(connection, str(self.path))  # another process may have been faster
            self.created = version == 0
            schema.migrate(connection, version, failed_table)

    def _make_shrinkable(self) -> None:
        """Have the file keep what `shrink` needs; one that is made without it is rewritten for that."""
        (now,) = self._connection.execute("PRAGMA auto_vacuum").fetchone()
        if now != INCREMENTAL:
            self._connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
            with suppress(sqlite3.OperationalError):  # locked or no space: it can wait for another start
                self._connection.execute("VACUUM")

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _translate(error, verb, self.path) from error


def _create(path: Path) -> None:
    try:
        private_directory(path.parent)
        os.close(open_private(path, os.O_RDWR))  # failed rows hold data
    except OSError as error:
        raise StateError(
            "create the state store",
            path,
            str(error.strerror),
            "Let this user write to that directory, or set another as [state] directory",
        ) from error


def _translate(error: sqlite3.Error, verb: str, path: Path) -> StateError:
    """What an error of SQLite asks for; anything not known stops."""
    operation = f"{verb} the state store"
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the high bits only say more about the same thing
    match code:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return _damaged(path, str(error))
        case sqlite3.SQLITE_FULL:
            problem, remedy = "the disk is full", f"Free space in {path.parent}; nothing was stored by halves"
            return StateError(operation, path, problem, remedy, meaning=Meaning.RETRY)
        case sqlite3.SQLITE_IOERR:
            problem, remedy = f"the disk failed ({error})", f"Check the space and the health of {path.parent}"
            return StateError(operation, path, problem, remedy, meaning=Meaning.RETRY)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            problem, remedy = (
                "another process keeps it locked",
                "End the program that has it open for writing",
            )
            return StateError(operation, path, problem, remedy, meaning=Meaning.RETRY)
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return StateError(operation, path, str(error), "Let this user write to it and to its directory")
    return StateError(operation, path, f"SQLite says: {error}", "Report this with the log")


def _damaged(path: Path, found: str) -> StoreDamaged:
    return StoreDamaged(
        "open the state store",
        path,
        f"it is damaged ({found})",
        "Run 'cdc watermark rebuild': it keeps the damaged file aside and starts from the target's marks",
    )


def _outdated(path: Path, version: int) -> StateError:
    return StateError(
        "open the state store",
        path,
        f"it is of version {version}, older than this cdc's {schema.VERSION}",
        "Start 'cdc run' once: it brings the store up to date",
    )
