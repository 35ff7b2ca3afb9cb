"""How much slower should a table go, for the target's sake? Wider with each complaint, narrower in the calm.

Fewer inserts are larger ones: what is committed during a longer linger is gathered into one batch, up to the
configured batch size.
"""

from __future__ import annotations

import threading

from cdc.clock import Clock

WIDEST = 32
LEAST_GAP_SECONDS = 0.05
"""What the first complaint makes of a shorter linger: 20 inserts a second are few enough for merges."""
MOST_GAP_SECONDS = 10.0
EASE_SECONDS = 10.0
"""Without a complaint for this long, half of the widening goes."""


class Pressure:
    """The widening of one table's work: 1 at rest, doubled by each complaint, up to `WIDEST`. Thread safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._width = 1
        self._changed_at = 0.0

    def __repr__(self) -> str:
        return f"Pressure({self.width})"

    @property
    def width(self) -> int:
        with self._lock:
            now = self._clock.monotonic()
            while self._width > 1 and now - self._changed_at >= EASE_SECONDS:
                self._width //= 2
                self._changed_at += EASE_SECONDS
            return self._width

    def complain(self) -> None:
        """The target says that it is asked too much."""
        width = self.width
        with self._lock:
            self._width = min(WIDEST, width * 2)
            self._changed_at = self._clock.monotonic()

    def gap(self, seconds: float) -> float:
        """The pause between two inserts that would be `seconds` at rest."""
        width = self.width
        if width == 1:
            return seconds
        return max(seconds, min(MOST_GAP_SECONDS, max(seconds, LEAST_GAP_SECONDS) * width))
