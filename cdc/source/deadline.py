"""When is a query's time over? It is interrupted then, whichever of its attempts is under way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from cdc.clock import Clock, SystemClock
from cdc.errors import SourceError


class Interruptible(Protocol):
    """What a query runs on."""

    def interrupt(self) -> None: ...


class Deadline:
    """Ends a query when its time is over. The time runs through all attempts; None: it never ends."""

    def __init__(self, seconds: float | None, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._seconds = seconds
        self._deadline = None if seconds is None else self._clock.monotonic() + seconds
        self._expired = False

    def refusal(self) -> SourceError | None:
        """The error that the end of the time is, once it is over."""
        if not self._expired:
            return None
        problem = f"it did not end within {self._seconds:g} s"
        return SourceError("run", "the query", problem, "Raise the timeout, or ask for less")

    @contextmanager
    def running(self, snapshot: Interruptible) -> Iterator[None]:
        """Interrupt what `snapshot` runs within, once the time is over."""
        if self._deadline is None:
            yield
            return

        def interrupt() -> None:
            self._expired = True
            snapshot.interrupt()

        timer = threading.Timer(max(0.0, self._deadline - self._clock.monotonic()), interrupt)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
