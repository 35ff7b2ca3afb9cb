"""How does a statement reach chdb's engine, with whose settings, and what does its error say?

One process holds one engine on one directory. Sessions are chdb connections: queries of different sessions
run at the same time, those of one session must not, so a session belongs to one thread.
"""

from __future__ import annotations

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


def error_of(raised: RuntimeError) -> EngineError:
    """The code and text in chdb's error; 1002 (UNKNOWN_EXCEPTION) where it has no code."""
    text = str(raised)
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

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._own_sets: list[str] = []

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
        for setting in settings:
            try:
                self.run(f"SET {setting.name} = {literal(setting.value)}")
            except EngineError as error:
                if setting.important or error.code != UNKNOWN_SETTING:
                    self.restore(applied)
                    raise
            else:
                applied.append(setting.name)
        for name, value in parameters.items():
            self.run(f"SET param_{name} = {value}")
        return applied

    def restore(self, names: Iterable[str]) -> None:
        """Undo what `apply` set; what the client itself has SET stays."""
        for name in names:
            self.run(f"SET {name} = DEFAULT")
        for own in self._own_sets if names else ():
            self.run(own)

    def run(self, sql: str, output_format: str = "TSV") -> bytes:
        """Run a statement to its end and give its whole output."""
        try:
            result = self._connection.query(sql, output_format)
        except RuntimeError as raised:
            raise error_of(raised) from None
        return bytes(result.bytes())

    def run_for_client(self, sql: str, output_format: str) -> bytes:
        """As `run`, and a SET outlives the query's own settings."""
        output = self.run(sql, output_format)
        words = first_words(sql.encode(), 2)
        if words[:1] == [b"SET"] and words[1:] not in ([b"ROLE"], [b"DEFAULT"]):
            self._own_sets.append(sql)
        return output

    def blocks(self, sql: str) -> Generator[Block]:
        """Run a statement and give its result block by block, the first one first without its rows.

        A result without rows gives its header where the engine can name it. Closing the iterator cancels.
        """
        self._refuse_several(sql)
        found = False
        for output in self._outputs(sql):
            stream = stream_of(output)
            while stream.has_more():
                block = read_format(stream)
                if not found:
                    found = True
                    yield block.header()
                yield block
        if not found and first_words(sql.encode(), 1) in ([b"SELECT"], [b"WITH"], [b"("]):
            yield self._header(sql)

    def _refuse_several(self, sql: str) -> None:
        if self._connection.classify_query(sql)["statement_count"] > 1:
            raise EngineError(
                SYNTAX_ERROR, "DB::Exception: Syntax error (Multi-statements are not allowed). (SYNTAX_ERROR)"
            )

    def _outputs(self, sql: str) -> Generator[bytes]:
        if self._connection.classify_query(sql)["query_class"] != _READ_ONLY:
            yield self.run_for_client(sql, "Native")
            return
        try:
            streaming = self._connection.send_query(sql, "Native")
        except RuntimeError as raised:
            if _NOT_STREAMED not in str(raised):
                raise error_of(raised) from None
            yield self.run_for_client(sql, "Native")
            return
        finished = False
        try:
            while True:
                try:
                    result = self._connection.streaming_fetch_result(streaming)
                except RuntimeError as raised:
                    finished = True
                    raise error_of(raised) from None
                if not result.rows_read():
                    finished = True
                    return
                yield bytes(result.bytes())
        finally:
            if not finished:
                self._connection.streaming_cancel_query(streaming)

    def _header(self, sql: str) -> Block:
        described = (
            line.split("\t") for line in self.run(f"DESCRIBE ({sql})", "TSVRaw").decode().splitlines()
        )
        return Block(0, tuple((name, type_, b"") for name, type_, *_ in described))

    def insert(self, head: str, format_: str) -> InsertInProgress:
        """Begin an INSERT; the engine has checked table, columns and privileges when this returns."""
        try:
            return InsertInProgress(self._connection, self._connection.send_insert(head, format_))
        except RuntimeError as raised:
            raise error_of(raised) from None


class InsertInProgress:
    """An INSERT the engine is taking data for: written by `finish`, left out altogether by `cancel`."""

    def __init__(self, connection: Any, handle: Any) -> None:
        self._connection = connection
        self._handle = handle

    def append(self, data: bytes) -> None:
        """Hand over the next bytes in the INSERT's format."""
        try:
            self._connection.insert_append(self._handle, data)
        except RuntimeError as raised:
            raise error_of(raised) from None

    def finish(self) -> int:
        """Write; gives the number of rows."""
        try:
            return int(self._connection.insert_done(self._handle).rows_written())
        except RuntimeError as raised:
            raise error_of(raised) from None

    def cancel(self) -> None:
        self._connection.insert_cancel(self._handle)


class Engine:
    """The engine on one directory, with a connection of its own for what the server itself asks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._own = self.session()
        facts = self._own.run("SELECT version(), timezone()").decode().rstrip("\n").split("\t")
        self.version, self.timezone = facts

    def session(self) -> Session:
        return Session(_connect(str(self._path)))

    def close(self) -> None:
        """Shut the engine down; every session must be closed before."""
        self._own.close()

    def insert_columns(self, insert: Insert, database: str) -> list[tuple[str, str]]:
        """Name and type of each column an INSERT takes, in its order; asked with all privileges."""
        with self.session() as session:
            session.use(database)
            rows = session.run(f"DESCRIBE TABLE {insert.table} FORMAT TSVRaw").decode()
        described = [line.split("\t") for line in rows.splitlines()]
        types = {name: type_ for name, type_, *_ in described}
        if insert.columns is not None:
            return [(name, types[name]) for name in insert.columns]
        computed = ("MATERIALIZED", "ALIAS", "EPHEMERAL")
        return [
            (name, type_)
            for name, type_, default, *_ in described
            if default not in computed and name not in insert.excluded
        ]


def literal(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
