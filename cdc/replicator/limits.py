"""How much may be sent and held at most? Rates shared by every table, memory for rows that wait. [S5, R5]"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from cdc.clock import Clock
from cdc.rate import Rate

MEMORY_SHARE = 0.8
"""Of the limit: what the process is to take at most, with the rows that wait to be delivered."""
LEAST_SHARE = 0.125
"""Of the limit: what rows that wait may take at least, however much the process takes without them. That much
is for its tables, some 2 MB each, and no wait makes it less."""


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What the process's memory is for, in bytes."""

    standing: int
    """Without rows: code, what DuckDB keeps, and what each table takes."""
    waiting: int
    """Rows that were read and are not delivered yet, and their blocks."""
    room: int
    """What those may take: above it reading waits for delivery."""

    @property
    def share(self) -> float:
        """Of the room that is taken."""
        return self.waiting / self.room


def resident_bytes() -> int:
    """The memory this process holds now."""
    return int(psutil.Process().memory_info().rss)


class ReplicatorLimits:
    """The limits of one replicator. Thread safe; 0 stands for no limit."""

    def __init__(
        self,
        clock: Clock,
        *,
        rows_per_second: float = 0.0,
        sent: Rate | None = None,
        memory_bytes: int = 0,
        used: Callable[[], int] = resident_bytes,
    ) -> None:
        """`sent` is told by the target of the bytes that it sends."""
        self._rows = Rate(rows_per_second, clock)
        self._sent = sent or Rate(0.0, clock)
        self._memory_bytes = memory_bytes
        self._used = used
        self._lock = threading.Lock()
        self._waiting = 0
        self._room: int | None = None

    def __repr__(self) -> str:
        return f"ReplicatorLimits({self._rows}, {self._sent}, memory={self._memory_bytes})"

    def take(self, rows: int) -> float:
        """The seconds to wait before a block of so many rows is sent: also for bytes that were sent before,
        since what a block takes on the wire is known once it is sent."""
        return max(self._rows.take(rows), self._sent.take(0.0))

    def wait(self, nbytes: int) -> None:
        """So many bytes of rows wait to be delivered from now on; negative: no longer."""
        with self._lock:
            self._waiting += nbytes

    def look(self) -> MemoryUse | None:
        """Measure the memory; None without a limit."""
        if not self._memory_bytes:
            return None
        with self._lock:
            waiting = self._waiting
        standing = max(0, self._used() - waiting)
        least = int(self._memory_bytes * LEAST_SHARE)
        self._room = max(int(self._memory_bytes * MEMORY_SHARE) - standing, least, 1)
        return MemoryUse(standing, waiting, self._room)

    @property
    def crowded(self) -> bool:
        """Whether more rows wait than memory had room for when it was last looked at."""
        return self._room is not None and self._waiting > self._room
