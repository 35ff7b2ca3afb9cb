"""Runs every table of one source side by side, and stops them all within a second. [L3]"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

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
    """The tables of one source, each in a thread of its own."""

    def __init__(
        self,
        source: Source,
        target: Target,
        marks: Marks,
        observer: Observer,
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
        self._marks = marks
        self._observer = observer
        self._pace = pace or Pace()
        self._backoff = backoff or Backoff()
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._plan_again = plan_again
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.breaker = breaker or Breaker(self._clock)

    def add(self, plan: TablePlan) -> TableLoop:
        """Replicate one more table from now on."""
        loop = TableLoop(
            plan,
            self._source,
            self._target,
            self._marks,
            self._observer,
            pace=self._pace,
            backoff=self._backoff,
            breaker=self.breaker,
            clock=self._clock,
            stop=self._stop,
            rng=self._rng,
            plan_again=self._plan_again,
        )
        thread = threading.Thread(target=loop.run, name=f"table {plan.table}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return loop

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
