"""How is one statement put to a writer that serves Quack? The only module that knows the client's library.

A result is fetched whole, and is to be of one response. The server sends its first `quack_fetch_batch_chunks`
chunks of a result with the answer to the statement; where there are more, it keeps the transaction open until
they are asked for, and a client that dies meanwhile keeps the writer from ever checkpointing again. A sorted
result has full chunks, so that its number of rows says how many there are: those of one chunk less are one
response, and `Facts.page_rows` keeps to that. Each statement is a transaction of its own, and none changes
anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import pyarrow as pa

from cdc.errors import Meaning, SourceError

CHUNK_ROWS = 2_048
"""Rows of a full chunk of DuckDB."""
DEFAULT_CHUNKS = 12
"""What `quack_fetch_batch_chunks` is unless the writer set it."""
EXTRA = "pip install 'duckdb-clickhouse-cdc[quack]'"


class Connection(Protocol):
    """One connection to the server; for one thread at a time."""

    def ask(self, sql: str) -> pa.Table:
        """All rows that `sql` selects.

        Raises:
            Away: the server does not answer, or does not know this connection any more.
            Refused: it answered with an error.
        """
        ...

    def cancel(self) -> None:
        """End what another thread waits for here; the server goes on with it."""
        ...

    def close(self) -> None: ...


class Away(Exception):
    """The server gave no answer. `stale`: it has forgotten the connection, as one that was restarted has."""

    def __init__(self, problem: str, *, stale: bool = False) -> None:
        super().__init__(problem)
        self.stale = stale


class Refused(Exception):
    """The server answered with an error."""


Connect = Callable[[], Connection]
"""Opens a connection; raises Away and Refused."""


def over_adbc(address: str, token: str, timeout_seconds: float) -> Connect:
    """Connections of the driver `adbc-driver-quack`.

    Raises:
        SourceError: it is not installed.
    """
    try:
        import adbc_driver_quack.dbapi as driver
    except ImportError:
        raise SourceError(
            "open", address, "the client of DuckDB's protocol Quack is not installed", f"Run: {EXTRA}"
        ) from None
    options = {
        "adbc.quack.token": token,
        "adbc.quack.rpc.timeout_seconds.connect": f"{round(timeout_seconds * 1000)}ms",
        "adbc.quack.rpc.timeout_seconds.request": f"{round(timeout_seconds * 1000)}ms",
    }

    def connect() -> Connection:
        try:
            return _Adbc(driver.connect(uri=address, db_kwargs=options, autocommit=True), driver)
        except driver.Error as error:
            raise _meaning_of(error, driver) from None

    return connect


class _Adbc:
    def __init__(self, connection: Any, driver: Any) -> None:
        self._connection = connection
        self._driver = driver
        self._cursor: Any = None

    def ask(self, sql: str) -> pa.Table:
        try:
            cursor = self._cursor = self._connection.cursor()
            try:
                cursor.execute(sql)
                return cursor.fetch_arrow_table()
            finally:
                self._cursor = None
                cursor.close()
        except self._driver.Error as error:
            raise _meaning_of(error, self._driver) from None

    def cancel(self) -> None:
        cursor = self._cursor
        if cursor is None:
            return
        try:
            cursor.adbc_cancel()
        except self._driver.Error:  # it has come to its end
            return

    def close(self) -> None:
        try:
            self._connection.close()
        except self._driver.Error:  # it is gone either way
            return


def _meaning_of(error: Exception, driver: Any) -> Exception:
    """The driver has no classes for what happened, but distinct texts."""
    text = str(error)
    if "Invalid connection id" in text:
        return Away("it was restarted", stale=True)
    if "Client.Timeout" in text or "deadline exceeded" in text:
        return Away("it did not answer in time")
    if "context canceled" in text:
        return Away("it was not waited for any longer")
    if isinstance(error, driver.OperationalError):
        return Away(text.removeprefix("IO: ").rpartition(": ")[2] or text)
    return Refused(text.partition(": ")[2].partition("\n\n")[0] or text)


class Client:
    """Puts statements to one server, from any thread; connections are kept and opened as they are needed.

    Args:
        greet: is called with each new connection before anything else is asked over it: it says whether the
            server is the one that was meant.
    """

    def __init__(
        self, address: str, token: str, connect: Connect, greet: Callable[[Connection], None]
    ) -> None:
        self.address = address
        self._token = token
        self._connect = connect
        self._greet = greet
        self._guard = threading.Lock()
        self._free: list[Connection] = []
        self._busy: set[Connection] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"Client({self.address})"

    def ask(self, sql: str, operation: str = "read", subject: object = "") -> pa.Table:
        """All rows of one SELECT, which are to be few enough for one response.

        Raises:
            SourceError: there is no answer, with the meaning retry, or it is an error.
        """
        subject = subject or self.address
        try:
            while True:
                kept = self._kept()
                connection = kept or self._opened()
                with self._guard:
                    self._busy.add(connection)
                try:
                    found = connection.ask(sql)
                except Away as error:
                    self._done(connection)
                    connection.close()
                    if error.stale and kept is not None:
                        continue  # there may be more of its kind; at last a new one is opened
                    raise
                except Refused:
                    self._done(connection)
                    self._keep(connection)
                    raise
                except BaseException:  # nobody knows what it is in the middle of
                    self._done(connection)
                    connection.close()
                    raise
                self._done(connection)
                self._keep(connection)
                return found
        except Away as error:
            raise SourceError(
                operation,
                subject,
                f"the writer that serves it gives no answer: {self._said(error)}",
                "Start the writer, have it serve Quack there, or open the network path; nothing is lost",
                meaning=Meaning.RETRY,
            ) from None
        except Refused as error:
            raise self._refusal(operation, subject, self._said(error)) from None

    def abandon(self) -> None:
        """End every question that another thread waits for the answer of."""
        with self._guard:
            busy = list(self._busy)
        for connection in busy:
            connection.cancel()

    def close(self) -> None:
        """Let go of every connection that is not in use; those are closed once they are."""
        with self._guard:
            self._closed = True
            free, self._free = self._free, []
        for connection in free:
            connection.close()

    def _done(self, connection: Connection) -> None:
        with self._guard:
            self._busy.discard(connection)

    def _opened(self) -> Connection:
        connection = self._connect()
        try:
            self._greet(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _kept(self) -> Connection | None:
        with self._guard:
            return self._free.pop() if self._free else None

    def _keep(self, connection: Connection) -> None:
        with self._guard:
            if not self._closed:
                self._free.append(connection)
                return
        connection.close()

    def _refusal(self, operation: str, subject: object, problem: str) -> SourceError:
        if "Authentication failed" in problem:
            return SourceError(
                operation,
                subject,
                "the writer refuses the token",
                "Write the token of its quack_serve as quack_token of [auth] into secrets.toml, or into the "
                "environment as DUCKDB_QUACK_TOKEN",
            )
        return SourceError(operation, subject, problem, "Correct the columns, the filter or the query")

    def _said(self, error: Exception) -> str:
        line = " ".join(str(error).split())
        return line.replace(self._token, "***") if self._token else line
