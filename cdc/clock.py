"""Time as a dependency: whoever decides by time is given a `Clock`, so that its tests need not wait."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """The time, and a wait that ends early."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin that never go backwards: for intervals."""
        ...

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC: for people and for stored times, never for intervals."""
        ...

    def thread_cpu(self) -> float:
        """Seconds of processor time taken by the calling thread, from an arbitrary origin: for differences.

        Windows counts them in steps of some 16 ms: what is shorter is right only on average there.
        """
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set or `seconds` have passed; True when the event is set."""
        ...


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def thread_cpu(self) -> float:
        return time.thread_time()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(0.0, seconds))
