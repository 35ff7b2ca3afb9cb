"""How is a block sent over HTTP? `INSERT … FORMAT Native` on a kept connection, by the standard library.

The body is compressed in ClickHouse's own frames (`decompress=1`), which every version takes and checks.
Credentials travel in headers: an URL is written to logs by everything between here and there.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pyarrow as pa

from cdc.config.endpoint import Endpoint
from cdc.target.meaning import (
    SENSELESS,
    Closed,
    HttpStatus,
    ServerError,
    one_line,
    senseless,
    sensible,
    server_error,
    target_error,
)
from cdc.target.native import decode_blocks
from cdc.target.options import TargetOptions
from cdc.target.transport.dial import Patience, dial, hang_up, is_stale
from cdc.target.transport.frames import Buffer, chunks, compressed, metered
from cdc.target.types import ColumnCodec
from cdc.target.version import ServerVersion

if TYPE_CHECKING:
    from cdc.target.transport import Body

_FAILURES = (OSError, EOFError, http.client.HTTPException, ServerError, HttpStatus, Closed)

_PIECE_BYTES = 1 << 20
MAX_ANSWER_BYTES = 2 << 30
"""Of an answer with rows: comparing asks for ranges of some megabytes each."""
MAX_REFUSAL_BYTES = 1 << 20
_ERROR_TEXT_CHARS = 1000
"""Of a refusal that is not ClickHouse's, a proxy's page for instance: as much as tells what it is."""


class HttpTransport:
    """One kept HTTP connection. It is dropped after any error: the next call starts on a clean one."""

    def __init__(self, endpoint: Endpoint, options: TargetOptions, database: str = "") -> None:
        self.endpoint = endpoint
        self._options = options
        self._database = database
        self._compression = options.compression_to(endpoint)
        self._connection: http.client.HTTPConnection | None = None
        self._dialled: socket.socket | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"HttpTransport({self.endpoint}, connected={self._connection is not None})"

    def version(self) -> ServerVersion:
        text = self._ask("connect to", "SELECT version() FORMAT TabSeparatedRaw", {})
        return ServerVersion.parse(text.decode(errors="replace"))

    def insert(self, sql: str, block: Body, settings: Mapping[str, str]) -> None:
        parameters = {"query": f"{sql} FORMAT Native", **settings}
        if self._compression != "none":
            parameters["decompress"] = "1"
        self._post("insert into", parameters, block.body(0))

    def query(self, sql: str, codecs: Sequence[ColumnCodec]) -> Iterator[pa.RecordBatch]:
        # The answer is begun when it is whole (up to what the server buffers), so a query that fails has a
        # status that says so, and is not cut in the middle of a block.
        data = self._ask("query", f"{sql} FORMAT Native", {"wait_end_of_query": "1"})
        yield from sensible(decode_blocks(data, codecs), self.endpoint)

    def execute(self, sql: str) -> None:
        self._ask("run a statement on", sql, {"wait_end_of_query": "1"})

    def ping(self) -> float:
        with self._connected("reach", self._options.timeouts.connect) as connection:
            started = time.monotonic()
            connection.putrequest("GET", "/ping")
            connection.endheaders()
            _answer(connection)
            return time.monotonic() - started

    def close(self) -> None:
        self._closed = True
        if self._dialled is not None:
            hang_up(self._dialled)

    def _ask(self, operation: str, sql: str, parameters: Mapping[str, str]) -> bytes:
        return self._post(operation, parameters, [sql.encode()], plain_text=True)

    def _post(
        self,
        operation: str,
        parameters: Mapping[str, str],
        body: Sequence[Buffer],
        *,
        plain_text: bool = False,
    ) -> bytes:
        settings = {**self._options.settings, **parameters}
        if self._database:
            settings["database"] = self._database
        method = "none" if plain_text else self._compression
        with self._connected(operation, self._options.timeouts.receive) as connection:
            connection.putrequest("POST", "/?" + urlencode(settings))
            connection.putheader("X-ClickHouse-User", self._options.user_at(self.endpoint))
            connection.putheader("X-ClickHouse-Key", self._options.password_at(self.endpoint))
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            pieces = metered(compressed(chunks(body), method), self._options.sent)
            _send(connection, pieces, self._options.timeouts.send)
            return _answer(connection)

    @contextmanager
    def _connected(self, operation: str, receive_seconds: float) -> Iterator[http.client.HTTPConnection]:
        """The connection, made anew where the last one is gone; dropped unless the block ends well."""
        done = False
        try:
            if self._closed:
                raise Closed
            if self._connection is not None and is_stale(self._connection.sock):
                self._drop()
            if self._connection is None:
                self._connection = self._connect()
            if self._closed:
                raise Closed
            self._connection.sock.settimeout(receive_seconds)
            yield self._connection
            done = self._connection.sock is not None  # the server may have asked to close it
        except _FAILURES as error:
            raise target_error(operation, self.endpoint, Closed() if self._closed else error) from error
        except SENSELESS as error:
            raise target_error(operation, self.endpoint, senseless(error)) from error
        finally:
            if not done:
                self._drop()

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.endpoint.host, self.endpoint.port)
        connection.sock = dial(
            self.endpoint, self._options.timeouts.connect, self._opened, self._options.dial_rate
        )
        return connection

    def _opened(self, opened: socket.socket) -> None:
        self._dialled = opened

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._dialled = None


def _send(
    connection: http.client.HTTPConnection, pieces: Iterator[bytes | memoryview], timeout_seconds: float
) -> None:
    """The body, in chunks of HTTP. A refusal that came before its end is left to be read as the answer."""
    receive_seconds = connection.sock.gettimeout()
    connection.sock.settimeout(timeout_seconds)
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            connection.send(f"{len(piece):x}\r\n".encode())
            connection.send(piece)
            connection.send(b"\r\n")
        connection.send(b"0\r\n\r\n")
    connection.sock.settimeout(receive_seconds)


def _bounded(response: http.client.HTTPResponse, most: int, patience: Patience) -> bytes:
    """The body, which an answer that never ends does not make longer than `most` bytes.

    Raises:
        HTTPException: it is longer, or shorter than was said.
        TimeoutError: it comes too slowly.
    """
    pieces, size = [], 0
    while piece := response.read1(_PIECE_BYTES):
        size += len(piece)
        patience.check(size)
        if size > most:
            raise http.client.HTTPException(f"its answer is longer than {most >> 20} MB")
        pieces.append(piece)
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    response.read()  # of nothing: the next request finds the connection free
    return b"".join(pieces)


def _answer(connection: http.client.HTTPConnection) -> bytes:
    """The body of a successful answer.

    Raises:
        ServerError: ClickHouse refused, with a status or, after it had begun to answer, with its tag.
        HttpStatus: something else did.
    """
    patience = Patience(connection.sock.gettimeout())
    response = connection.getresponse()
    most = MAX_ANSWER_BYTES if response.status == http.client.OK else MAX_REFUSAL_BYTES
    body = _bounded(response, most, patience)
    text = None
    if response.status != http.client.OK:
        text = body.decode(errors="replace")
    elif (tag := response.getheader("X-ClickHouse-Exception-Tag")) is not None:
        _, marked, told = body.rpartition(f"__exception__\r\n{tag}\r\n".encode())
        text = told.decode(errors="replace") if marked else None
    if text is None:
        return body
    said = server_error(text, response.getheader("X-ClickHouse-Exception-Code"))
    raise said or HttpStatus(response.status, one_line(text)[:_ERROR_TEXT_CHARS])
