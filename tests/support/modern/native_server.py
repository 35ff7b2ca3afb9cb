"""How does one client of the native TCP protocol get from hello to its answers?

The protocol as ClickHouse's TCPHandler speaks it (src/Server/TCPHandler.cpp, docs/native-protocol), from
revision 54429, where settings became strings, to 54468. Of what a server sends without being asked, logs are
left out, and profile events are empty: clients count on one packet of them after each block of an INSERT.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.support.modern.blocks import NOT_IMPLEMENTED, Block, UnservedType, read_wire
from tests.support.modern.engine import Engine, EngineError, InsertInProgress, Session, Setting
from tests.support.modern.faults import Dropped, Faults, finish
from tests.support.modern.statement import Insert, parse_insert, without_format
from tests.support.modern.users import Users
from tests.support.modern.wire import (
    LZ4,
    NONE,
    ZSTD,
    ProtocolError,
    Stream,
    frame,
    string,
    unframe,
    varint,
)

REVISION = 54468
"""The newest revision spoken, that of SYSTEM_KEYWORDS_TABLE, which clickhouse-driver 0.2.11 speaks too."""
OLDEST_REVISION = 54429

CLIENT_HELLO, CLIENT_QUERY, CLIENT_DATA, CLIENT_CANCEL, CLIENT_PING = range(5)
HELLO, DATA, EXCEPTION, PROGRESS, PONG, END_OF_STREAM, PROFILE_INFO = range(7)
TABLE_COLUMNS, PROFILE_EVENTS = 11, 14
CUSTOM_SETTING, IMPORTANT_SETTING = 2, 1
_EVENTS = Block(
    0,
    tuple(
        (name, type_, b"")
        for name, type_ in (
            ("host_name", "String"),
            ("current_time", "DateTime"),
            ("thread_id", "UInt64"),
            ("type", "Enum8('increment' = 1, 'gauge' = 2)"),
            ("name", "String"),
            ("value", "Int64"),
        )
    ),
)
METHODS = {"lz4": LZ4, "lz4hc": LZ4, "zstd": ZSTD, "none": NONE}


@dataclass(frozen=True)
class Query:
    sql: str
    settings: tuple[Setting, ...]
    parameters: Mapping[str, str]
    compressed: bool

    @property
    def method(self) -> int:
        """The method byte of the frames sent back, from the client's network_compression_method."""
        asked = [s.value.lower() for s in self.settings if s.name == "network_compression_method"]
        return METHODS.get(asked[-1] if asked else "lz4", LZ4)


class NativeClient:
    """One connection, served by `serve` until the client leaves or a fault closes it."""

    def __init__(self, sock: socket.socket, engine: Engine, users: Users, faults: Faults) -> None:
        self._sock = sock
        self._engine = engine
        self._users = users
        self._faults = faults
        self._stream = Stream(lambda: sock.recv(1 << 18))
        self._revision = REVISION
        self._abandoned: Query | None = None  # an INSERT refused while its blocks were still coming

    def serve(self) -> None:
        """Answer until the connection ends, whoever ends it."""
        try:
            self._serve()
        except (EOFError, OSError, Dropped):
            pass
        except ProtocolError as error:
            with contextlib.suppress(OSError):
                self._send_exception(EngineError(error.code, f"DB::Exception: {error}"))

    def _serve(self) -> None:
        try:
            session = self._hello()
        except EngineError as error:
            self._send_exception(error)
            return
        with session:
            while self._stream.has_more():
                self._packet(session)

    def _hello(self) -> Session:
        stream = self._stream
        if stream.varint() != CLIENT_HELLO:
            raise ProtocolError("the first packet is not a hello")
        stream.blob()
        stream.varint()
        stream.varint()
        self._revision = min(stream.varint(), REVISION)
        database, user, password = stream.text() or "default", stream.text(), stream.text()
        if self._revision < OLDEST_REVISION:
            raise EngineError(
                NOT_IMPLEMENTED, f"DB::Exception: revision {self._revision} is too old for this test support"
            )
        session = self._users.login(self._engine, user or "default", password)
        try:
            session.use(database)
            self._sock.sendall(self._hello_packet())
            if self._revision >= 54458:
                stream.blob()
        except BaseException:
            session.close()
            raise
        return session

    def _hello_packet(self) -> bytes:
        major, minor, patch = (int(part) for part in self._engine.version.split(".")[:3])
        packet = varint(HELLO) + string("ClickHouse") + varint(major) + varint(minor) + varint(REVISION)
        packet += string(self._engine.timezone) + string("modern") + varint(patch)
        if self._revision >= 54461:
            packet += varint(0)  # rules of password complexity
        if self._revision >= 54462:
            packet += bytes(8)  # nonce of the interserver secret
        return packet

    def _packet(self, session: Session) -> None:
        kind = self._stream.varint()
        if kind == CLIENT_DATA and self._abandoned is not None:
            if not self._read_block(self._abandoned).columns:
                self._abandoned = None
            return
        self._abandoned = None
        if kind == CLIENT_PING:
            self._sock.sendall(varint(PONG))
        elif kind == CLIENT_QUERY:
            query = self._read_query()
            try:
                self._skip_external_tables(query)
                self._answer(session, query)
            except EngineError as error:
                self._send_exception(error)
        elif kind != CLIENT_CANCEL:
            raise ProtocolError(f"Unexpected packet {kind}")

    def _read_query(self) -> Query:
        stream = self._stream
        stream.blob()  # query id
        self._skip_client_info()
        settings = tuple(
            Setting(name, value, important=bool(flags & IMPORTANT_SETTING))
            for name, flags, value in self._read_settings()
        )
        if self._revision >= 54441:
            stream.blob()  # interserver secret
        stream.varint()  # stage
        compressed = bool(stream.varint())
        sql = stream.text()
        parameters = {}
        if self._revision >= 54459:
            parameters = {name: value for name, _, value in self._read_settings()}
        return Query(sql, settings, parameters, compressed)

    def _skip_client_info(self) -> None:
        stream = self._stream
        if stream.byte() == 0:
            return
        for _ in range(3):
            stream.blob()  # initial user, query id, address
        if self._revision >= 54449:
            stream.skip(8)  # start time
        stream.skip(1)  # interface
        for _ in range(3):
            stream.blob()  # system user, host, client
        for _ in range(3):
            stream.varint()  # version and revision
        stream.blob()  # quota key
        if self._revision >= 54448:
            stream.varint()  # distributed depth
        stream.varint()  # patch
        if self._revision >= 54442 and stream.byte():
            stream.skip(24)  # trace and span
            stream.blob()
            stream.skip(1)
        if self._revision >= 54453:
            for _ in range(3):
                stream.varint()  # parallel replicas

    def _read_settings(self) -> Iterator[tuple[str, int, str]]:
        while name := self._stream.text():
            yield name, self._stream.varint(), self._stream.text()

    def _skip_external_tables(self, query: Query) -> None:
        while (block := self._read_data(query)).columns:
            raise UnservedType(f"external tables are not served ({len(block.columns)} columns)")

    def _read_data(self, query: Query) -> Block:
        kind = self._stream.varint()
        if kind != CLIENT_DATA:
            raise ProtocolError(f"packet {kind} where data are due")
        return self._read_block(query)

    def _read_block(self, query: Query) -> Block:
        self._stream.blob()  # table name
        stream = self._stream
        if query.compressed:
            stream = Stream(lambda: unframe(self._stream))
        return read_wire(stream, self._revision)

    def _answer(self, session: Session, query: Query) -> None:
        insert = parse_insert(query.sql.encode("utf-8", "surrogateescape"))
        applied = session.apply(query.settings, query.parameters)
        try:
            if insert is None:
                self._select(session, query)
            else:
                self._insert(session, query, insert)
        finally:
            session.restore(applied)

    def _select(self, session: Session, query: Query) -> None:
        sql = without_format(query.sql.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
        rows = blocks = size = 0
        result = session.blocks(sql)
        with contextlib.closing(result):
            for block in result:
                size += self._send_data(block, query)
                rows += block.rows
                blocks += bool(block.rows)
                if self._cancelled():
                    break
        info = varint(PROFILE_INFO) + varint(rows) + varint(blocks) + varint(size) + b"\0" + varint(0) + b"\0"
        progress = self._progress(read=(rows, size))
        self._sock.sendall((info if blocks else b"") + progress + varint(END_OF_STREAM))

    def _cancelled(self) -> bool:
        """Whether a cancel is waiting to be read; any other packet during a query is not the protocol."""
        if not self._stream.buffered() and not select.select([self._sock], [], [], 0)[0]:
            return False
        if self._stream.varint() != CLIENT_CANCEL:
            raise ProtocolError("only a cancel may come during a query")
        return True

    def _insert(self, session: Session, query: Query, insert: Insert) -> None:
        if insert.data:
            running = session.insert(insert.head, insert.format)
            running.append(insert.data)
        else:
            columns = session.insert_columns(insert)
            running = session.insert(insert.head, "Native")
            self._receive(running, columns, query)
        written = finish(running, self._faults.next_insert(insert.table))
        self._send_events()
        self._sock.sendall(self._progress(written=(written, 0)) + varint(END_OF_STREAM))

    def _send_sample(self, columns: list[tuple[str, str]], query: Query) -> None:
        described = f"columns format version: 1\n{len(columns)} columns:\n"
        described += "".join(f"`{name}` {type_}\n" for name, type_ in columns)
        self._sock.sendall(varint(TABLE_COLUMNS) + string("") + string(described))
        self._send_data(Block(0, tuple((name, type_, b"") for name, type_ in columns)), query)

    def _receive(self, running: InsertInProgress, columns: list[tuple[str, str]], query: Query) -> None:
        """Hand the client's blocks to the engine as they come; an error is answered while they still come."""
        self._abandoned = query
        try:
            self._send_sample(columns, query)
            while (block := self._read_data(query)).columns:
                if block.rows:
                    running.append(block.to_format())
                self._send_events()
        except EngineError:
            raise
        except BaseException:
            running.cancel()
            raise
        self._abandoned = None

    def _send_data(self, block: Block, query: Query) -> int:
        body = block.to_wire(self._revision)
        packed = frame(body, query.method) if query.compressed else body
        self._sock.sendall(varint(DATA) + string("") + packed)
        return len(body)

    def _send_events(self) -> None:
        if self._revision >= 54456:
            self._sock.sendall(varint(PROFILE_EVENTS) + string("") + _EVENTS.to_wire(self._revision))

    def _progress(self, read: tuple[int, int] = (0, 0), written: tuple[int, int] = (0, 0)) -> bytes:
        packet = varint(PROGRESS) + varint(read[0]) + varint(read[1]) + varint(0)
        if self._revision >= 54463:
            packet += varint(0)  # bytes to read in all
        packet += varint(written[0]) + varint(written[1])
        if self._revision >= 54460:
            packet += varint(0)  # nanoseconds
        return packet

    def _send_exception(self, error: EngineError) -> None:
        packet = varint(EXCEPTION) + struct.pack("<i", error.code)
        self._sock.sendall(packet + string("DB::Exception") + string(error.text) + string("") + b"\0")
