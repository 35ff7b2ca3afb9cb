"""How is a block sent over ClickHouse's native TCP protocol? clickhouse-driver speaks it; the data is ours.

clickhouse-driver does the greeting, the query packet, the compression and every packet that is not data. An
INSERT is answered by a sample block; then the block goes out as it was encoded, without Python values.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from clickhouse_driver import Client
from clickhouse_driver import errors as driver
from clickhouse_driver.block import RowOrientedBlock
from clickhouse_driver.connection import Connection
from clickhouse_driver.protocol import ClientPacketTypes, ServerPacketTypes
from clickhouse_driver.reader import read_binary_str
from clickhouse_driver.varint import read_varint, write_varint
from clickhouse_driver.writer import write_binary_str

from cdc.config.endpoint import Endpoint
from cdc.target.meaning import SENSELESS, Closed, senseless, target_error
from cdc.target.native import Reader, decode_block
from cdc.target.native.reader import Truncated
from cdc.target.options import TargetOptions
from cdc.target.transport.dial import Patience, dial, hang_up, is_stale
from cdc.target.transport.frames import chunks, compressed, metered
from cdc.target.types import ColumnCodec
from cdc.target.version import ServerVersion

if TYPE_CHECKING:
    from cdc.target.transport import Body

CLIENT_REVISION = 54453
"""The newest revision before custom serializations (54454): from there on a server may answer a SELECT with
sparse columns, as it does for a `_cdc_deleted` that is nearly always 0. Everything used here is older."""

MAX_ANSWER_BYTES = 2 << 30
"""Of a whole answer with rows, as over HTTP."""
MAX_BLOCK_BYTES = 512 << 20
"""Of one block of it; a server aims at one megabyte."""

_FIRST_PIECE_BYTES, _GROWTH = 1 << 10, 8
"""Of what has arrived, so much is tried first, and so many times more the next time."""

_BLOCK_INFO_BYTES = 8
"""Before every block at this revision: two numbered fields and the end mark."""

_FAILURES = (driver.Error, OSError, EOFError, Closed)

logging.getLogger("clickhouse_driver").setLevel(logging.ERROR)  # what it warns of, we raise


class _Wire(Connection):  # type: ignore[misc]  # clickhouse-driver is not typed
    """clickhouse-driver's connection with two differences: our sockets, and our decoding of data blocks."""

    def __init__(self, endpoint: Endpoint, options: TargetOptions, database: str = "") -> None:
        method = options.compression_to(endpoint)
        super().__init__(
            endpoint.host,
            endpoint.port,
            database=database,
            user=options.user_at(endpoint),
            password=options.password_at(endpoint),
            client_name="cdc",
            compression=False if method == "none" else method,
            client_revision=CLIENT_REVISION,
            settings_is_important=True,
            # The greeting is part of connecting; a query sets its own time-outs.
            send_receive_timeout=options.timeouts.connect,
        )
        self.context.client_settings = Client(endpoint.host).client_settings  # its defaults; nothing connects
        self.target = endpoint
        self.rate = options.dial_rate
        self.dialled: socket.socket | None = None
        self.codecs: Sequence[ColumnCodec] | None = None
        self.answered_bytes = 0
        """Of this answer's blocks, so far."""

    def connect(self) -> None:
        """Greet the server, with the failure as it happened instead of clickhouse-driver's text of it."""
        self._init_connection(self.target.host, self.target.port)

    def _create_socket(self, _host: str, _port: int) -> socket.socket:
        return dial(self.target, self.send_receive_timeout, self._opened, self.rate)

    def _opened(self, opened: socket.socket) -> None:
        self.dialled = opened

    def receive_data(self, may_be_compressed: bool = True, may_be_use_numpy: bool = False) -> Any:
        # Only blocks of a result are read with may_be_use_numpy; logs and profile events are not for us.
        if self.codecs is None or not may_be_use_numpy:
            return super().receive_data(may_be_compressed, may_be_use_numpy)
        read_binary_str(self.fin)  # the name of an external table: always empty
        return self._receive_batch(self.codecs)

    def _receive_batch(self, codecs: Sequence[ColumnCodec]) -> pa.RecordBatch | None:
        """The next block of a result; None for the empty block that ends it.

        A block does not say how long it is. So it is decoded from some of what has arrived, and again from
        more, each time so much more that all the tries together cost little more than the last.
        """
        stream = self.block_in.fin
        start, size = stream.position, _FIRST_PIECE_BYTES
        while True:
            stop = min(start + size, stream.current_buffer_size)
            if (found := self._block_in(bytes(stream.buffer[start:stop]), codecs)) is not None:
                stream.position = start + found[1]
                return found[0]
            if stop == stream.current_buffer_size:
                break
            size *= _GROWTH
        return self._receive_rest(stream, bytearray(stream.buffer[start:stop]), codecs)

    def _receive_rest(
        self, stream: Any, arrived: bytearray, codecs: Sequence[ColumnCodec]
    ) -> pa.RecordBatch | None:
        """The block that begins with what has `arrived`, once the rest has, too."""
        patience = Patience(self.socket.gettimeout())
        while True:
            stream.read_into_buffer()
            arrived += stream.buffer[: stream.current_buffer_size]
            if len(arrived) > min(MAX_BLOCK_BYTES, MAX_ANSWER_BYTES - self.answered_bytes):
                raise driver.UnexpectedPacketFromServerError("its answer is longer than any may be")
            patience.check(len(arrived))
            began = time.monotonic()
            if (found := self._block_in(bytes(arrived), codecs)) is not None:
                stream.position = stream.current_buffer_size - (len(arrived) - found[1])
                return found[0]
            if stream.current_buffer_size < len(arrived) // _GROWTH:
                time.sleep(time.monotonic() - began)  # whoever sends little at a time gets half a processor

    def _block_in(
        self, data: bytes, codecs: Sequence[ColumnCodec]
    ) -> tuple[pa.RecordBatch | None, int] | None:
        """The block that `data` begins with, and its bytes; None: it goes on past their end."""
        reader = Reader(data)
        try:
            batch = _decoded(reader, codecs, self.server_info.used_revision)
        except (Truncated, IndexError):
            return None
        self.answered_bytes += reader.at
        if self.answered_bytes > MAX_ANSWER_BYTES:
            raise driver.UnexpectedPacketFromServerError("its answer is longer than any may be")
        return batch, reader.at


class NativeTransport:
    """One native connection. It is dropped after any error: the next call starts on a clean one."""

    def __init__(self, endpoint: Endpoint, options: TargetOptions, database: str = "") -> None:
        self.endpoint = endpoint
        self._options = options
        self._wire = _Wire(endpoint, options, database)
        self._closed = False

    def __repr__(self) -> str:
        return f"NativeTransport({self.endpoint}, connected={self._wire.connected})"

    def version(self) -> ServerVersion:
        with self._connected("connect to", self._options.timeouts.connect) as wire:
            return ServerVersion(*wire.server_info.version_tuple())

    def insert(self, sql: str, block: Body, settings: Mapping[str, str]) -> None:
        with self._connected("insert into", self._options.timeouts.receive) as wire:
            self._ask(wire, f"{sql} VALUES", settings)
            _await_sample(wire)
            self._send(wire, block)
            for _ in _packets(wire):
                pass

    def query(self, sql: str, codecs: Sequence[ColumnCodec]) -> Iterator[pa.RecordBatch]:
        with self._connected("query", self._options.timeouts.receive) as wire:
            wire.codecs, wire.answered_bytes = codecs, 0
            self._ask(wire, sql, {})
            for packet in _packets(wire):
                if packet.block:
                    yield packet.block
            wire.codecs = None

    def execute(self, sql: str) -> None:
        with self._connected("run a statement on", self._options.timeouts.receive) as wire:
            self._ask(wire, sql, {})
            for _ in _packets(wire):
                pass

    def ping(self) -> float:
        with self._connected("reach", self._options.timeouts.connect) as wire:
            started = time.monotonic()
            write_varint(ClientPacketTypes.PING, wire.fout)
            wire.fout.flush()
            if read_varint(wire.fin) != ServerPacketTypes.PONG:
                raise driver.UnexpectedPacketFromServerError("the answer to a ping is not a pong")
            return time.monotonic() - started

    def close(self) -> None:
        self._closed = True
        if self._wire.dialled is not None:
            hang_up(self._wire.dialled)

    @contextmanager
    def _connected(self, operation: str, receive_seconds: float) -> Iterator[_Wire]:
        """The connection, made anew where the last one is gone; dropped unless the block ends well."""
        wire = self._wire
        done = False
        try:
            if self._closed:
                raise Closed
            if wire.connected and is_stale(wire.socket):
                wire.disconnect()
            if not wire.connected:
                wire.connect()
            if self._closed:
                raise Closed
            wire.socket.settimeout(receive_seconds)
            yield wire
            done = True
        except _FAILURES as error:
            raise target_error(operation, self.endpoint, Closed() if self._closed else error) from error
        except SENSELESS as error:
            raise target_error(operation, self.endpoint, senseless(error)) from error
        finally:
            if not done:
                wire.disconnect()
                wire.codecs = None

    def _ask(self, wire: _Wire, sql: str, settings: Mapping[str, str]) -> None:
        wire.context.settings = {**self._options.settings, **settings}
        wire.send_query(sql)
        wire.send_data(RowOrientedBlock())  # no external tables

    def _send(self, wire: _Wire, block: Body) -> None:
        """The block, as it was encoded, and the empty one that ends the data."""
        revision = wire.server_info.used_revision
        method = self._options.compression_to(self.endpoint)
        write_varint(ClientPacketTypes.DATA, wire.fout)
        write_binary_str("", wire.fout)
        wire.fout.flush()
        receive_seconds = wire.socket.gettimeout()
        wire.socket.settimeout(self._options.timeouts.send)
        try:
            for piece in metered(compressed(chunks(block.body(revision)), method), self._options.sent):
                wire.socket.sendall(piece)
            wire.send_data(RowOrientedBlock())
        except ConnectionError:
            # A server that refuses in the middle says why before it hangs up; that is the better error.
            wire.socket.settimeout(self._options.timeouts.connect)
            for _ in _packets(wire):
                pass
            raise
        wire.socket.settimeout(receive_seconds)


def _decoded(reader: Reader, codecs: Sequence[ColumnCodec], revision: int) -> pa.RecordBatch | None:
    probe = Reader(reader.data)
    probe.take(_BLOCK_INFO_BYTES)
    if probe.varint():
        return decode_block(reader, codecs, revision)
    reader.take(_BLOCK_INFO_BYTES + 2)  # no columns, no rows
    return None


def _packets(wire: _Wire) -> Iterator[Any]:
    """Every packet up to the end of the answer.

    Raises:
        clickhouse_driver.errors.ServerException: the server's own.
    """
    while True:
        packet = wire.receive_packet()
        if packet.type == ServerPacketTypes.EXCEPTION:
            raise packet.exception
        if packet.type == ServerPacketTypes.END_OF_STREAM:
            return
        yield packet


def _await_sample(wire: _Wire) -> None:
    """Read up to the sample block, with which the server asks for the data of an INSERT."""
    for packet in _packets(wire):
        if packet.type == ServerPacketTypes.DATA:
            return
    raise driver.UnexpectedPacketFromServerError("the server did not ask for the data of an INSERT")
