"""How often and how much does one table read?"""

from __future__ import annotations

from dataclasses import dataclass, field

from cdc.change import BatchLimits

_MOST_REST_SECONDS = 0.1
"""Between two rounds of a busy table, however much they take: what is committed meanwhile waits for it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how much: every bound of one table's work.

    `linger_ms` is the shortest time between two reads: a change after a pause is delivered at once, a burst
    is gathered. `interval_seconds` above 0 asks for one read per interval instead of one per change. [F9]
    `busy_percent` is the share of a core that a table may take while changes follow one another: rounds then
    are fewer and larger, which writer, replicator and target all pay less for. It is of processor time, for
    that is what the writer feels: waiting for the target costs it nothing, and is as good as a rest.
    """

    limits: BatchLimits = field(default_factory=lambda: BatchLimits(rows=100_000, bytes=32 << 20))
    linger_ms: float = 10.0
    busy_percent: float = 30.0
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

    def gap(self, cpu_seconds: float, wall_seconds: float) -> float:
        """From the start of a read to that of the next, after one that took so much processor time and lasted
        so long, until all of it was delivered."""
        share = cpu_seconds * 100.0 / self.busy_percent
        return max(self.gap_seconds, min(share, wall_seconds + _MOST_REST_SECONDS))
