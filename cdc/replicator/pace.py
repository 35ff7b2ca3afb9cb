"""How often and how much does one table read?"""

from __future__ import annotations

from dataclasses import dataclass, field

from cdc.change import BatchLimits


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how much: every bound of one table's work.

    `linger_ms` is the shortest time between two reads: a change after a pause is delivered at once, a burst
    is gathered. `interval_seconds` above 0 asks for one read per interval instead of one per change. [F9]
    """

    limits: BatchLimits = field(default_factory=lambda: BatchLimits(rows=100_000, bytes=32 << 20))
    linger_ms: float = 10.0
    interval_seconds: float = 0.0
    idle_seconds: float = 60.0
    """The longest wait for a change: after it the source is read anyway."""
    halted_seconds: float = 60.0
    """How long a halted table waits before it is set up again."""
    retry_failed_seconds: float = 10.0
    """How often failed rows are looked for whose next attempt is due."""
    retry_at_once_rows: int = 10
    """More failed rows than this are all tried again at once, once."""

    @property
    def gap_seconds(self) -> float:
        return max(self.interval_seconds, self.linger_ms / 1000.0)
