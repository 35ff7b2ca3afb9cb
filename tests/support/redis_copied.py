"""The copy in Redis of a source under test, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cdc.config.redis import RedisOptions
from cdc.errors import CdcError
from cdc.redis_copy import RedisCopy

SOURCE = "0f3a"


@dataclass
class Events:
    wrote: int = 0
    dropped: int = 0
    reached: list[CdcError | None] = field(default_factory=list)

    def redis_wrote(self, rows: int) -> None:
        self.wrote += rows

    def redis_dropped(self, rows: int) -> None:
        self.dropped += rows

    def redis_reached(self, error: CdcError | None) -> None:
        self.reached.append(error)


@contextmanager
def copy_of(options: RedisOptions, events: Events, *, pid: int = 7, **more: Any) -> Iterator[RedisCopy]:
    """The copy that process `pid` makes, with `more` for `RedisCopy`."""
    status = {"state": "running", "pid": pid, "tables": [{"table": "main.trades", "watermark": "5"}]}
    with RedisCopy(options, SOURCE, lambda: status, events, **more) as redis_copy:
        yield redis_copy
