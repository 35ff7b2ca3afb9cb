"""How does a block reach the engine embedded in this process? As Native bytes through a pipe, over no socket.

chdb holds one directory per process; within it, each connection is independent and inserts run side by side.
The obvious way in, its streaming insert, is not used: in 26.9 it reports success when the engine then refuses
the rows (a violated constraint, too many partitions). An INSERT that reads a pipe reports every error, and is
no slower: 1,000,000 rows of one UInt64 in 0.03 to 0.06 s, either way.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cdc.config.endpoint import Endpoint
from cdc.errors import Meaning, TargetError
from cdc.target.meaning import Closed, sensible, server_error, target_error
from cdc.target.native import decode_blocks
from cdc.target.options import TargetOptions
from cdc.target.quote import quote_identifier, quote_string
from cdc.target.transport.frames import Buffer, chunks
from cdc.target.types import ColumnCodec
from cdc.target.version import ServerVersion

if TYPE_CHECKING:
    from cdc.target.transport import Body


class EmbeddedTransport:
    """One connection to the engine in this process."""

    def __init__(self, endpoint: Endpoint, options: TargetOptions, database: str = "") -> None:
        self.endpoint = endpoint
        self._options = options
        self._database = database
        self._connection: Any = None
        self._busy = threading.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"EmbeddedTransport({self.endpoint}, connected={self._connection is not None})"

    def version(self) -> ServerVersion:
        with self._connected("open") as connection:
            text = connection.query("SELECT version()", "TabSeparatedRaw").bytes()
        return ServerVersion.parse(text.decode())

    def insert(self, sql: str, block: Body, settings: Mapping[str, str]) -> None:
        settings = {"max_execution_time": str(self._options.timeouts.receive), **settings}
        clause = ", ".join(f"{name} = {quote_string(value)}" for name, value in settings.items())
        with self._connected("insert into") as connection, _pipe(block.body(0)) as source:
            connection.query(
                f"{sql} FROM INFILE {quote_string(source)} SETTINGS {clause} FORMAT Native", "Null"
            )

    def query(self, sql: str, codecs: Sequence[ColumnCodec]) -> Iterator[pa.RecordBatch]:
        with self._connected("query") as connection:
            if sql.startswith("DESCRIBE "):  # it streams no other statement than a SELECT
                data = connection.query(sql, "Native").bytes()
                yield from sensible(decode_blocks(data, codecs), self.endpoint)
                return
            # As a stream: a large result at once would take its own size in memory.
            with connection.send_query(sql, "Native") as chunks:
                for chunk in chunks:
                    if self._closed:
                        raise Closed
                    yield from sensible(decode_blocks(chunk.bytes(), codecs), self.endpoint)

    def execute(self, sql: str) -> None:
        with self._connected("run a statement on") as connection:
            connection.query(sql, "Null")

    def ping(self) -> float:
        with self._connected("reach") as connection:
            started = time.monotonic()
            connection.query("SELECT 1", "Null")
            return time.monotonic() - started

    def close(self) -> None:
        """Close the connection; where another thread is using it, that thread does when it is done."""
        self._closed = True
        if self._busy.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._busy.release()

    @contextmanager
    def _connected(self, operation: str) -> Iterator[Any]:
        with self._busy:
            try:
                if self._closed:
                    raise Closed
                if self._connection is None:
                    self._connection = self._connect()
                yield self._connection
            except (RuntimeError, Closed) as error:  # chdb raises nothing narrower
                said = server_error(str(error)) if isinstance(error, RuntimeError) else error
                raise target_error(operation, self.endpoint, said or error) from error
            finally:
                if self._closed:
                    self._drop()

    def _connect(self) -> Any:
        try:
            from chdb.state import connect  # half a second and 150 MB, so only where it is used
        except ModuleNotFoundError as error:
            raise TargetError(
                "open",
                self.endpoint,
                "the embedded engine is not installed",
                "Run: pip install 'duckdb-clickhouse-cdc[embedded]'",
            ) from error
        try:
            connection = connect(str(self.endpoint.path))
        except RuntimeError as error:
            raise TargetError(
                "open",
                self.endpoint,
                "another process, or another directory in this process, has the embedded engine",
                "It is tried again; stop the other program, or name one chdb:// directory only",
                meaning=Meaning.RETRY,
            ) from error
        for name, value in self._options.settings.items():
            connection.query(f"SET {quote_identifier(name)} = {quote_string(value)}")
        if self._database:
            connection.query(f"USE {quote_identifier(self._database)}")
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


@contextmanager
def _pipe(body: Sequence[Buffer]) -> Iterator[str]:
    """A path from which `body` can be read once. chdb exists for Linux and macOS, which both have /dev/fd."""
    reading, writing = os.pipe()
    feeder = threading.Thread(target=_feed, args=(writing, body), name="feed the embedded engine")
    feeder.start()
    try:
        yield f"/dev/fd/{reading}"
    finally:
        os.close(reading)  # ends the feeder where nobody has read to the end
        feeder.join()


def _feed(writing: int, body: Sequence[Buffer]) -> None:
    with contextlib.suppress(BrokenPipeError), open(writing, "wb") as pipe:
        for piece in chunks(body):
            pipe.write(piece)
