"""Does the target answer just now? Asked with a ping, at most once a second for all tables together."""

from __future__ import annotations

import threading

from cdc.clock import Clock
from cdc.errors import Meaning, TargetError
from cdc.replicator.ports import Target

EVERY_SECONDS = 1.0
"""Between two pings: often enough that work goes on within seconds of the target's return."""


class TargetProbe:
    """The last ping, repeated once it is older than `EVERY_SECONDS`. Thread safe.

    It does not promise that an insert will succeed, only that somebody is there to take it.
    """

    def __init__(self, target: Target, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._asking_since: float | None = None
        self._answered = True
        self._silent_at = float("-inf")
        self._round_trip: float | None = None

    def __repr__(self) -> str:
        return f"TargetProbe(answered={self._answered}, round_trip={self._round_trip})"

    def answers(self) -> bool:
        """Whether the target answers. A thread that waits for another's ping takes that one's result."""
        with self._lock:
            now = self._clock.monotonic()
            if self._asked_at is None or now - self._asked_at >= EVERY_SECONDS:
                self._ask()
            return self._answered

    def lately(self) -> bool:
        """Whether the target answered when it was asked last, without a wait; one that has been asked for
        more than a second does not."""
        asking = self._asking_since
        return self._answered and (asking is None or self._clock.monotonic() - asking < EVERY_SECONDS)

    def silent_since(self, moment: float) -> bool:
        """Whether a ping at `moment` or later, of the monotonic clock, had no answer."""
        return self._silent_at >= moment

    def round_trip(self) -> float | None:
        """Seconds that a ping takes; None while nobody answers."""
        return self._round_trip if self.answers() else None

    def _ask(self) -> None:
        self._asking_since = self._clock.monotonic()
        try:
            self._round_trip = self._target.ping()
            self._answered = True
        except TargetError as error:
            self._answered = error.meaning is not Meaning.RETRY  # one who refuses is there
            self._round_trip = None
        self._asked_at = self._clock.monotonic()
        if not self._answered:
            self._silent_at = self._asked_at
        self._asking_since = None
