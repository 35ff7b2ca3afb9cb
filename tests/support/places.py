"""Every kind of target that the same tests run against, each behind one small value: a place."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from cdc.config.endpoint import Endpoint, parse_endpoint
from cdc.target import ClickHouseTarget, TargetOptions, Timeouts, open_target
from cdc.target.transport import Transport, new_transport

PLACES = ("old-native", "old-http", "modern-native", "modern-http", "embedded")
"""18.16 and 26.9 over both wires, and 26.9 in this process."""

TIMEOUTS = Timeouts(connect=20, send=20, receive=20)
"""Long enough for a loaded machine; a test of a time-out has its own."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A server with a database of its own for one test, and a way round our code to ask what is in it."""

    endpoint: Endpoint
    database: str
    query: Callable[[str], str]
    """The answer to any statement as tab-separated text, without the last newline."""

    def options(self, **changes: Any) -> TargetOptions:
        return replace(TargetOptions(database=self.database, timeouts=TIMEOUTS), **changes)

    def target(self, **changes: Any) -> ClickHouseTarget:
        return open_target([self.endpoint], self.options(**changes))

    def transport(self, **changes: Any) -> Transport:
        return new_transport(self.endpoint, self.options(**changes), self.database)

    def rows(self, table: str) -> int:
        return int(self.query(f"SELECT count() FROM {self.database}.{table}"))


@contextmanager
def place(url: str, query: Callable[[str], str]) -> Iterator[Place]:
    """A place with an empty database, which is dropped at the end."""
    database = f"test_{os.getpid()}_{next(_numbers)}"
    query(f"CREATE DATABASE {database}")
    yield Place(parse_endpoint(url), database, query)
    query(f"DROP DATABASE {database}")
