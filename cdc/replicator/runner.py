"""Runs every table of one source side by side, and stops them all within a second. [L3]"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence

from cdc.change import TablePlan
from cdc.clock import Clock, SystemClock
from cdc.replicator.breaker import Breaker
from cdc.replicator.ports import Marks, Observer, Source, Target
from cdc.replicator.retry import Backoff
from cdc.replicator.table import Pace, TableLoop

STOP_SECONDS = 0.8
"""How long the tables may finish the block in flight once a stop was asked for. What is not finished then is
abandoned by closing its connection: it will be sent again after the next start, under the same token."""


class Replicator:
    """Every planned table of one source, each in a thread of its own."""

    def __init__(
        self,
        source: Source,
        target: Target,
        marks: Marks,
        observer: Observer,
        plans: Sequence[TablePlan],
        *,
        pace: Pace | None = None,
        backoff: Backoff | None = None,
        breaker: Breaker | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        plan_again: Callable[[TablePlan], TablePlan] | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self._clock = clock or SystemClock()
        self.breaker = breaker or Breaker(self._clock)
        self._stop = threading.Event()
        self.tables = tuple(
            TableLoop(
                plan,
                source,
                target,
                marks,
                observer,
                pace=pace or Pace(),
                backoff=backoff or Backoff(),
                breaker=self.breaker,
                clock=self._clock,
                stop=self._stop,
                rng=rng or random.Random(),
                plan_again=plan_again,
            )
            for plan in plans
        )
        self._threads = [
            threading.Thread(target=loop.run, name=f"table {plan.table}", daemon=True)
            for loop, plan in zip(self.tables, plans, strict=True)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask every table to stop; returns at once. Safe in a signal handler and from any thread."""
        self._stop.set()
        self._source.wake()

    def join(self, seconds: float = STOP_SECONDS) -> bool:
        """Wait until every table has stopped; what has not after `seconds` loses its connection.

        Returns:
            False when a thread still did not end; it is a daemon and holds nothing durable open.
        """
        deadline = self._clock.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._clock.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self._target.close()
            for thread in self._threads:
                thread.join(0.1)
        return not any(thread.is_alive() for thread in self._threads)
