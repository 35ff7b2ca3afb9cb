"""A bound on how many of something there may be in a second, that never waits itself."""

from __future__ import annotations

import threading

from cdc.clock import Clock


class Rate:
    """A bucket that fills with `per_second` and holds one second's worth. Thread safe.

    More may be taken than it holds: the debt is what the taker, and those after it, wait for. So one thing
    larger than a second's worth passes whole, late.
    """

    def __init__(self, per_second: float, clock: Clock) -> None:
        """`per_second` 0: no bound."""
        self._per_second = per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._held = per_second
        self._filled_at = clock.monotonic()

    def __repr__(self) -> str:
        return f"Rate({self._per_second:g}/s)"

    def take(self, amount: float) -> float:
        """Take `amount`; gives the seconds to wait before it is used."""
        if not self._per_second:
            return 0.0
        with self._lock:
            now = self._clock.monotonic()
            filled = self._held + (now - self._filled_at) * self._per_second
            self._held = min(self._per_second, filled) - amount
            self._filled_at = now
            return max(0.0, -self._held / self._per_second)
