"""How does a statement reach chdb's engine, with whose settings, and what does its error say?

One process holds one engine on one directory. Sessions are chdb connections: queries of different sessions
run at the same time, those of one session must not, so a session belongs to one thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chdb import _chdb

from tests.support.modern.blocks import Block, read_format
from tests.support.modern.statement import Insert, first_words
from tests.support.modern.wire import stream_of

UNKNOWN_SETTING = 115
SYNTAX_ERROR = 62
_ERROR = re.compile(r"Code: (\d+)\. (.*)", re.DOTALL)
_connect = vars(_chdb)["connect"]  # the compiled module comes without types
_READ_ONLY = vars(_chdb)["query_class"].READ_ONLY
_NOT_STREAMED = "Streaming query is not supported"


class EngineError(Exception):
    """What ClickHouse answers with an exception: its code, and its text from "DB::Exception: " on."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"Code: {code}. {text}")
        self.code = code
        self.text = text


def error_of(raised: RuntimeError, user: str = "default") -> EngineError:
    """The code and text in chdb's error, about `user`; 1002 (UNKNOWN_EXCEPTION) where it has no code."""
    text = str(raised).replace("DB::Exception: default: ", f"DB::Exception: {user}: ")
    match = _ERROR.search(text)
    if match is None:
        return EngineError(1002, f"DB::Exception: {text}")
    return EngineError(int(match[1]), match[2])


@dataclass(frozen=True)
class Setting:
    """A setting of one query; an unknown one is refused where it is important, else left out."""

    name: str
    value: str
    important: bool = True


class Session:
    """One client's chdb connection: its database, its own SETs, its temporary tables."""

    def __init__(self, connection: Any, user: str) -> None:
        self._connection = connection
        self._user = user
        self._own_sets: list[str] = []
        self._reading = False
        """It may only read, which the engine cannot undo; a server could, for the next query."""

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def use(self, database: str) -> None:
        """Make this the session's database; raises EngineError 81 when there is none of that name."""
        self.run(f"USE {quoted(database)}")

    def apply(self, settings: Iterable[Setting], parameters: Mapping[str, str]) -> list[str]:
        """Set what one query brings along; gives the names to hand to `restore` after it.

        `parameters` are the names of query parameters and their values as SQL literals.
        """
        applied: list[str] = []
        if self._reading:
            return applied
        settings = sorted(settings, key=lambda setting: setting.name == "readonly")
        for setting in settings:
            try:
                self.run(f"SET {setting.name} = {literal(setting.value)}")
            except EngineError as error:
                if setting.important or error.code != UNKNOWN_SETTING:
                    self.restore(applied)
                    raise
            else:
                applied.append(setting.name)
                self._reading = (setting.name, setting.value) == ("readonly", "1")
        for name, value in parameters.items():
            self.run(f"SET param_{name} = {value}")
        return applied

    def restore(self, names: Iterable[str]) -> None:
        """Undo what `apply` set; what the client itself has SET stays."""
        if self._reading:
            return
        for name in names:
            self.run(f"SET {name} = DEFAULT")
        for own in self._own_sets if names else ():
            self.run(own)

    def run(self, sql: str, output_format: str = "TSV") -> bytes:
        """Run a statement to its end and give its whole output."""
        try:
            result = self._connection.query(_bytes(sql), output_format)
        except RuntimeError as raised:
            raise error_of(raised, self._user) from None
        return bytes(result.bytes())

    def run_for_client(self, sql: str, output_format: str) -> bytes:
        """As `run`, and a SET outlives the query's own settings."""
        output = self.run(sql, output_format)
        words = first_words(_bytes(sql), 2)
        if words[:1] == [b"SET"] and words[1:] not in ([b"ROLE"], [b"DEFAULT"]):
            self._own_sets.append(sql)
        return output

    def blocks(self, sql: str) -> Generator[Block]:
        """Run a statement and give its result block by block, the first one first without its rows.

        A SELECT has a header even without rows. Closing the iterator cancels.
        """
        kind = self._connection.classify_query(_bytes(sql))
        if kind["statement_count"] > 1:
            raise EngineError(
                SYNTAX_ERROR, "DB::Exception: Syntax error (Multi-statements are not allowed). (SYNTAX_ERROR)"
            )
        header = self._header(sql)
        if header is not None:
            yield header
        for output in self._outputs(sql, stream=kind["query_class"] == _READ_ONLY):
            stream = stream_of(output)
            while stream.has_more():
                block = read_format(stream)
                if header is None:
                    header = block.header()
                    yield header
                yield block.typed_as(header)

    def _outputs(self, sql: str, *, stream: bool) -> Generator[bytes]:
        if not stream:
            yield self.run_for_client(sql, "Native")
            return
        try:
            streaming = self._connection.send_query(_bytes(sql), "Native")
        except RuntimeError as raised:
            if _NOT_STREAMED not in str(raised):
                raise error_of(raised, self._user) from None
            yield self.run_for_client(sql, "Native")
            return
        finished = False
        try:
            while True:
                try:
                    result = self._connection.streaming_fetch_result(streaming)
                except RuntimeError as raised:
                    finished = True
                    raise error_of(raised, self._user) from None
                if not result.rows_read():
                    finished = True
                    return
                yield bytes(result.bytes())
        finally:
            if not finished:
                self._connection.streaming_cancel_query(streaming)

    def _header(self, sql: str) -> Block | None:
        """The columns of a SELECT; None for other statements, and where running it says what is wrong."""
        if first_words(_bytes(sql), 1) not in ([b"SELECT"], [b"WITH"], [b"("]):
            return None
        try:
            described = self._describe(f"({sql})")
        except EngineError:
            return None
        return Block(0, tuple((name, type_, b"") for name, type_, *_ in described))

    def _describe(self, what: str) -> list[list[str]]:
        """Name, type, kind of default and more of each column."""
        rows = self.run(f"DESCRIBE {what} SETTINGS print_pretty_type_names = 0", "JSONCompactEachRow")
        return [json.loads(row) for row in rows.splitlines()]

    def insert(self, head: str, format_: str) -> InsertInProgress:
        """Begin an INSERT; the engine has checked table, columns and privileges when this returns."""
        try:
            # Begun for its checks alone: it reports success for rows that the engine then refuses (26.9).
            self._connection.insert_cancel(self._connection.send_insert(_bytes(head), format_))
        except RuntimeError as raised:
            raise error_of(raised, self._user) from None
        return InsertInProgress(self._connection, head, format_)

    def insert_columns(self, insert: Insert) -> list[tuple[str, str]]:
        """Name and type of each column an INSERT takes, in its order."""
        try:
            described = self._describe(f"TABLE {insert.table}")
            types = {name: type_ for name, type_, *_ in described}
            if insert.columns is not None:
                return [(name, types[name]) for name in insert.columns]
        except (EngineError, KeyError):
            # The INSERT itself fails for the same reason, and says so as the server would.
            self.insert(insert.head, "Native").cancel()
            raise
        computed = ("MATERIALIZED", "ALIAS", "EPHEMERAL")
        return [
            (name, type_)
            for name, type_, default, *_ in described
            if default not in computed and name not in insert.excluded
        ]


class InsertInProgress:
    """An INSERT the engine is taking data for: written by `finish`, left out altogether by `cancel`."""

    def __init__(self, connection: Any, head: str, format_: str) -> None:
        self._connection = connection
        self._head = head
        self._format = format_
        self._data: list[bytes] = []

    def append(self, data: bytes) -> None:
        """Keep the next bytes in the INSERT's format."""
        self._data.append(data)

    def finish(self) -> int:
        """Write; gives the number of rows."""
        insert, *settings = _SETTINGS.split(self._head, maxsplit=1)
        reading, writing = os.pipe()
        feeder = threading.Thread(target=_feed, args=(writing, self._data))
        feeder.start()
        try:
            source = " SETTINGS ".join((f"{insert} FROM INFILE '/dev/fd/{reading}'", *settings))
            sql = f"{source} FORMAT {self._format}"
            return int(self._connection.query(_bytes(sql), "Null").rows_read())
        except RuntimeError as raised:
            raise error_of(raised) from None
        finally:
            os.close(reading)  # ends the feeder where nobody has read to the end
            feeder.join()

    def cancel(self) -> None:
        self._data.clear()


_SETTINGS = re.compile(r"\sSETTINGS\s", re.IGNORECASE)
"""Which stand behind FROM INFILE."""


def _feed(writing: int, pieces: list[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError), open(writing, "wb") as pipe:
        pipe.writelines(pieces)


class Engine:
    """The engine on one directory, open until `close`.

    `config_file` is a ClickHouse configuration; `administrator` is the role of what the server itself asks.
    """

    def __init__(self, path: Path, config_file: Path, administrator: str) -> None:
        self._address = f"{path}?config-file={config_file}"
        self._own = self.session("default", administrator)  # keeps the engine up between clients
        facts = self._own.run("SELECT version(), timezone()", "TSVRaw").decode().rstrip("\n").split("\t")
        self.version, self.timezone = facts

    def session(self, user: str, role: str) -> Session:
        """A session with the rights of `role` alone, whose errors name `user`."""
        session = Session(_connect(self._address), user)
        session.run(f"SET ROLE {quoted(role)}")
        return session

    def close(self) -> None:
        """Shut the engine down; every session must be closed before."""
        self._own.close()


def _bytes(sql: str) -> bytes:
    """A statement as it came; one may hold bytes that are not UTF-8."""
    return sql.encode("utf-8", "surrogateescape")


def literal(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
