"""How far has the clock of the versions got? A counter that only grows, for all sources of the store.

An era is taken from a block that was reserved before, durably: after a crash the next one begins past it.
Blocks grow while a process goes on taking eras, so that a checkpoint rarely costs a commit of the store, and
one that is started again and again leaves few unused.

Several processes may share it. What one reserves the others see, and begin no era before it any more: who
sends rows with an era of its own, as a repair does, waits for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from cdc.eras import first_past
from cdc.state.database import Database

MOST_RESERVED = 64
"""Eras of one block."""


class StoredEras:
    """The counter of one store, for one process. Safe to use from several threads."""

    def __init__(self, database: Database, first: Callable[[], int]) -> None:
        """`first`: where a counter begins that the store knows nothing of."""
        self._database = database
        self._first = first
        self._lock = threading.Lock()
        self._next = self._end = 0
        """The block: eras from the one up to before the other."""
        self._size = 1
        self._last = 0
        """The era that was taken last."""
        self._others = False
        """Another process has taken some since that was asked last."""
        self.floor = 0
        """No position of an era before it is to be made any more."""

    def __repr__(self) -> str:
        return f"StoredEras({self._next} of {self._end}, floor {self.floor})"

    def take(self) -> int:
        """An era that nobody has taken before, greater than all that were.

        Raises:
            StateError: it could not be reserved.
        """
        with self._lock:
            while self._next >= self._end or self._next < self.floor:
                self._reserve()
            self._last, self._next = self._next, self._next + 1
            return self._last

    def past(self, version: int) -> None:
        """Raise the floor past the era of `version`, durably.

        Raises:
            StateError: it could not be stored, or no era is past it.
        """
        with self._lock:
            self.floor = max(self.floor, self._next, first_past(version))
            self._reserve()
            self.floor = self._next

    def seen(self, stored: int | None) -> int | None:
        """The store's counter is `stored`. If another process has raised it, no position is made before that
        any more; answers then from which era on they are."""
        if not self._others and (stored is None or stored <= max(self._end, self.floor)):
            return None
        with self._lock:
            self._others = False
            if stored is not None and stored > self._end:
                self.floor = max(stored, self.floor)
            return max(self._last, self.floor)

    def floor_of(self, source: str) -> int:
        """What the replicator of `source` told last of its floor.

        Raises:
            StateError: the store cannot be read.
        """
        rows = self._database.query(_FLOOR, (source,))
        return int(rows[0][0]) if rows else 0

    def _reserve(self) -> None:
        first = max(self.floor, self._end)
        with self._database.transaction() as connection:
            row = connection.execute(_STORED).fetchone()
            if row is not None and row[0] != self._end:
                self._others = True
            first = max(first, self._first() if row is None else row[0])
            connection.execute(_RESERVE, (first + self._size,))
        self._next, self._end = first, first + self._size
        self._size = min(2 * self._size, MOST_RESERVED)


_STORED = "SELECT next FROM eras"
_FLOOR = "SELECT floor FROM sources WHERE source = ?"
_RESERVE = "INSERT INTO eras (only, next) VALUES (0, ?) ON CONFLICT DO UPDATE SET next = excluded.next"
