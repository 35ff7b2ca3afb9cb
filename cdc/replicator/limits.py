"""How much may be sent and held at most? Rates shared by every table, and the process's memory. [S5, R5]"""

from __future__ import annotations

from collections.abc import Callable

import psutil

from cdc.clock import Clock
from cdc.rate import Rate

MEMORY_SHARE = 0.8
"""Of the limit; above it reading waits for what was read to be delivered."""


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
        self._share: float | None = None

    def __repr__(self) -> str:
        return f"ReplicatorLimits({self._rows}, {self._sent}, memory={self._memory_bytes})"

    def take(self, rows: int) -> float:
        """The seconds to wait before a block of so many rows is sent: also for bytes that were sent before,
        since what a block takes on the wire is known once it is sent."""
        return max(self._rows.take(rows), self._sent.take(0.0))

    def look(self) -> float | None:
        """Measure the memory; gives its share of the limit, None without a limit."""
        if self._memory_bytes:
            self._share = self._used() / self._memory_bytes
        return self._share

    @property
    def crowded(self) -> bool:
        """Whether the memory was above its share of the limit when it was last looked at."""
        return self._share is not None and self._share > MEMORY_SHARE
