"""Decides whether the target may be asked at all: after repeated failures only one probe at a time may. [R7]

Shared by every table of one target: when the server is down, one table asks it, not all of them.
"""

from __future__ import annotations

import threading
from enum import Enum

from cdc.clock import Clock


class BreakerState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Closed until `failures` attempts failed in a row; then open for `open_seconds`; then half-open: one
    probe is let through, whose outcome closes it or opens it again.

    Thread safe. It never waits: `delay` says how long to.
    """

    def __init__(self, clock: Clock, failures: int = 3, open_seconds: float = 5.0) -> None:
        if failures < 1:
            raise ValueError("a breaker needs at least one failure to open")
        self._clock = clock
        self._threshold = failures
        self._open_seconds = open_seconds
        self._lock = threading.Lock()
        self._failures = 0
        self._opened_at: float | None = None
        self._probe_since: float | None = None

    def __repr__(self) -> str:
        return f"Breaker({self.state.value}, failures={self._failures})"

    @property
    def state(self) -> BreakerState:
        with self._lock:
            return self._state()

    def delay(self) -> float:
        """Seconds until an attempt may be made; 0 means now, and that the caller makes it."""
        with self._lock:
            match self._state():
                case BreakerState.CLOSED:
                    return 0.0
                case BreakerState.OPEN:
                    assert self._opened_at is not None
                    return self._opened_at + self._open_seconds - self._clock.monotonic()
                case BreakerState.HALF_OPEN:
                    now = self._clock.monotonic()
                    # A probe whose thread died must not keep the breaker shut for ever.
                    if self._probe_since is not None and now - self._probe_since < self._open_seconds:
                        return self._probe_since + self._open_seconds - now
                    self._probe_since = now
                    return 0.0

    def half_open(self) -> None:
        """The target seems to be back: a probe may be made now."""
        with self._lock:
            if self._state() is BreakerState.OPEN:
                self._opened_at = self._clock.monotonic() - self._open_seconds

    def succeeded(self) -> None:
        """The target answered, whatever it said of the data."""
        with self._lock:
            self._failures = 0
            self._opened_at = None
            self._probe_since = None

    def failed(self) -> None:
        """The target did not answer, or could not do any work."""
        with self._lock:
            self._failures += 1
            self._probe_since = None
            if self._failures >= self._threshold:
                self._opened_at = self._clock.monotonic()

    def _state(self) -> BreakerState:
        if self._opened_at is None:
            return BreakerState.CLOSED
        if self._clock.monotonic() - self._opened_at < self._open_seconds:
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN
