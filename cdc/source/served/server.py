"""Which database answers at the address, and is it still the one that was read?

Nothing that SQL shows names a database file but its path, so the path and the database's name make its
identity. What names a running server is the moment at which it loaded the extension: one that comes back with
another was restarted, and what is at the path may be an older copy: tables are then compared anew. One that
comes back after another had answered in its place is one of two that share the port.

A connection belongs to one server: whoever answers it later without knowing it says so. So all of this is
asked once for each connection.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import Any

from cdc.errors import Meaning, SourceError, SourceReplaced
from cdc.source.served.client import CHUNK_ROWS, Away, Connection, Refused

_FACTS = """
SELECT current_database() AS database, path, version() AS version,
    CAST(current_setting('quack_loaded_at_us') AS BIGINT) AS started,
    CAST(current_setting('quack_fetch_batch_chunks') AS BIGINT) AS chunks
FROM duckdb_databases() WHERE database_name = current_database()
"""
_LEAST_CHUNKS = 2


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of itself."""

    database: str
    path: str
    version: str
    started: int
    """Microseconds since 1970."""
    chunks: int
    """Of one response."""

    @property
    def identity(self) -> str:
        named = f"{self.path}\0{self.database}".encode()
        return f"served-{hashlib.blake2b(named, digest_size=8).hexdigest()}"

    @property
    def page_rows(self) -> int:
        """The most rows of one page: a page with one more is told by that, and is still one response.

        A response of as many chunks as there may be does not say that it was the last.
        """
        return (self.chunks - 1) * CHUNK_ROWS - 1


class Server:
    """What is known of the server at one address. Safe to use from several threads."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._guard = threading.Lock()
        self._facts: Facts | None = None
        self._before: set[int] = set()
        self.generation = 0
        """How many servers there were before the present one."""

    def __repr__(self) -> str:
        return f"Server({self.address}, {self._facts})"

    @property
    def facts(self) -> Facts:
        """What the present server said."""
        assert self._facts is not None, "it was greeted"
        return self._facts

    def greet(self, connection: Connection) -> None:
        """See that the server behind a new `connection` is the one it was.

        Raises:
            Away: it gave no answer.
            SourceError: it cannot be read from.
            SourceReplaced: it serves another database.
        """
        found = self._asked(connection)
        with self._guard:
            known = self._facts
            if known is not None and found.identity != known.identity:
                raise SourceReplaced(
                    "follow",
                    self.address,
                    f"another database answers there (it was {known.path}, and is {found.path})",
                    "A replicator goes on with the new one by itself; run a command again",
                )
            if found.started in self._before:
                raise SourceError(
                    "follow",
                    self.address,
                    "two servers answer there in turn",
                    "Have each writer serve on a port of its own",
                    meaning=Meaning.RETRY,
                )
            if known is not None and found.started != known.started:
                self._before.add(known.started)
                self.generation += 1
            self._facts = found

    def _asked(self, connection: Connection) -> Facts:
        try:
            rows: list[dict[str, Any]] = connection.ask(_FACTS).to_pylist()
        except Refused as error:
            raise Away(f"it does not say what it serves ({error})") from None
        row = rows[0]
        facts = Facts(row["database"], row["path"] or "", row["version"], row["started"], row["chunks"])
        if not facts.path or facts.path == ":memory:":
            raise SourceError(
                "follow",
                self.address,
                "the database that it serves is in memory",
                "Have the writer open its file with duckdb.connect(FILE), or USE what it attached",
            )
        if facts.chunks < _LEAST_CHUNKS:
            raise SourceError(
                "read",
                self.address,
                f"quack_fetch_batch_chunks is {facts.chunks}: a page would not fit one response",
                f"Have the writer set it to {_LEAST_CHUNKS} or more",
            )
        return facts
