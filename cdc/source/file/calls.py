"""Who is in a call of DuckDB now? A process that ends under one ends by a signal, so a close waits here."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar
from weakref import WeakSet

import duckdb

from cdc.errors import SourceError

Item = TypeVar("Item")

_PAUSE_SECONDS = 0.05
"""Between two interruptions: a call may begin its next query after the one that was interrupted."""


class Calls:
    """Counts the calls under way, which may be nested. Safe to use from several threads."""

    def __init__(self) -> None:
        self._none = threading.Condition()
        self._count = 0
        self._connections: WeakSet[duckdb.DuckDBPyConnection] = WeakSet()
        self.ended = False
        """No call begins any more."""

    def add(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """Note `connection`, to interrupt what runs on it."""
        with self._none:
            self._connections.add(connection)
        return connection

    @contextmanager
    def call(self, *, last: bool = False) -> Iterator[None]:
        """A call lasts as long as the context; `last` ones, which close something, begin after the end too.

        Raises:
            SourceError: the end has come, before or meanwhile.
        """
        with self._none:
            if self.ended and not last:
                raise closed()
            self._count += 1
        try:
            yield
        except (duckdb.Error, SourceError):
            if self.ended and not last:
                raise closed() from None
            raise
        finally:
            with self._none:
                self._count -= 1
                if not self._count:
                    self._none.notify_all()

    def each(self, items: Generator[Item, None, object]) -> Generator[Item, None, None]:
        """The `items`, each of which is a call; between two of them there is none.

        Raises:
            SourceError: the end has come.
        """
        try:
            while True:
                with self.call():
                    item = next(items, None)
                if item is None:
                    return
                yield item
        finally:
            with self.call(last=True):
                items.close()

    def end(self, seconds: float) -> bool:
        """Let no call begin, interrupt those under way, and wait for them; False if one goes on after that.

        A query ends at once by it; the replay of a log does not.
        """
        with self._none:
            self.ended = True
        for _ in range(max(1, math.ceil(seconds / _PAUSE_SECONDS))):
            with self._none:
                if not self._count:
                    return True
                running = list(self._connections)
            for connection in running:
                with contextlib.suppress(duckdb.Error):  # closed meanwhile
                    connection.interrupt()
            with self._none:
                if self._none.wait_for(lambda: not self._count, _PAUSE_SECONDS):
                    return True
        return False


def closed() -> SourceError:
    """What a call meets that comes after the end."""
    return SourceError("read", "the source", "it was closed", "Open it again")
