"""Says when failed work is tried again: quickly at first, then along the configured list, for ever.

Nothing is given up here: the rows are safe in the source, and the mark has not moved. [R2, R6]
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """The waits between attempts.

    `first_seconds` is the wait before each of the first `first_attempts` retries; after those the waits are
    `steps_seconds` in turn, the last one repeated. Each is shortened at random by up to `jitter` of itself,
    so that many replicators do not return to a recovering server in step.
    """

    first_seconds: float = 0.5
    first_attempts: int = 4
    steps_seconds: Sequence[float] = (10.0, 30.0, 60.0, 120.0)
    jitter: float = 0.2

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after failure number `attempt`, counted from 1."""
        if attempt <= self.first_attempts or not self.steps_seconds:
            base = self.first_seconds
        else:
            step = min(attempt - self.first_attempts, len(self.steps_seconds)) - 1
            base = self.steps_seconds[step]
        return base * (1.0 - self.jitter * rng.random())
