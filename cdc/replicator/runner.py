"""Runs every table of one source side by side, and stops them all within a second. [L3]"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress

from cdc.change import Position, TableId, TablePlan, Unseen
from cdc.clock import Clock, SystemClock
from cdc.errors import CdcError, LeaseHeld
from cdc.replicator.breaker import Breaker
from cdc.replicator.limits import ReplicatorLimits
from cdc.replicator.parts import Hooks, Policies, Ports
from cdc.replicator.redelivery import Redelivery
from cdc.replicator.shared_context import SharedContext
from cdc.replicator.table import TableLoop
from cdc.replicator.target_probe import TargetProbe
from cdc.replicator.target_watch import TargetWatch

STOP_SECONDS = 0.8
"""How long the tables may finish the block in flight once a stop was asked for. What is not finished then is
abandoned by closing its connection: it will be sent again after the next start, under the same token."""
END_SECONDS = 15.0
"""How long a read under way may take to end after that: DuckDB cannot be interrupted in the replay of a log,
and closing what it uses would end the process by a signal."""
DRAIN_LOOK_SECONDS = 0.05
"""How often is looked whether all is delivered that was to be, at the end."""
LOOK_SECONDS = 1.0
"""How often the memory is looked at,"""
LOOKS_PER_PING = 5
"""and how many looks there are to a measurement of the target's round trip,"""
LOOKS_PER_SIGHTING = 3
"""and to a look whether the target's tables are still those that rows were delivered to."""
SLOW_SECONDS = 0.5
"""A longer round trip is taken for a complaint: there is less to do for the target then."""


class Replicator:
    """The tables of one source, each in a thread of its own, and one thread that watches over the limits.

    `stop`, when given, is set from outside to stop, and here when another replicator has taken over; `error`
    then says so.
    """

    def __init__(
        self,
        ports: Ports,
        policies: Policies | None = None,
        hooks: Hooks | None = None,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        clock = clock or SystemClock()
        policies, hooks = policies or Policies(), hooks or Hooks()
        self.breaker = policies.breaker or Breaker(clock)
        self.error: LeaseHeld | None = None
        self._shared = SharedContext(
            source=ports.source,
            target=ports.target,
            marks=ports.marks,
            observer=ports.observer,
            pace=policies.pace,
            backoff=policies.backoff,
            breaker=self.breaker,
            probe=TargetProbe(ports.target, clock),
            limits=policies.limits or ReplicatorLimits(clock),
            clock=clock,
            stop=stop or threading.Event(),
            rng=rng or random.Random(),
            plan_again=hooks.plan_again,
            rules=hooks.rules,
            room=policies.room,
            copied=hooks.copied,
        )
        self._target_watch = TargetWatch(ports.target, self._unseen, hooks.target_restarted)
        self._loops: dict[TableId, TableLoop] = {}
        self._threads: list[threading.Thread] = []

    def add(self, plan: TablePlan) -> TableLoop:
        """Replicate one more table from now on."""
        loop = TableLoop(plan, self._shared, lost=self.lost)
        self._loops[plan.table] = loop
        if not self._threads:
            self._start(self._watch, "limits")
        self._start(loop.run, f"table {plan.table}")
        return loop

    def replan(self, plan: TablePlan) -> None:
        """Replicate a table that was added before by this plan from now on."""
        self._loops[plan.table].replan(plan)

    def waiting(self) -> dict[TableId, float]:
        """For how many seconds the target has not taken what it was sent, by table. Thread safe."""
        found = {table: loop.waiting_seconds() for table, loop in list(self._loops.items())}
        return {table: seconds for table, seconds in found.items() if seconds is not None}

    def drain(self, seconds: float) -> list[TableId]:
        """Wait, for so long at most, until all is delivered that is committed now; answers which tables are
        not that far. `stop` ends the wait."""
        clock, stop = self._shared.clock, self._shared.stop
        deadline = clock.monotonic() + seconds
        committed: Position | None = None
        while True:
            try:
                committed = committed or self._shared.source.position()
            except CdcError:  # a checkpoint at this moment, or a file that is gone
                left = list(self._loops)
            else:
                left = [table for table, loop in self._loops.items() if not loop.is_past(committed)]
            if not left or clock.monotonic() >= deadline or clock.wait(stop, DRAIN_LOOK_SECONDS):
                return left

    def stop(self) -> None:
        """Ask every table to stop; returns at once. Safe from any thread."""
        self._shared.stop.set()
        self._shared.source.wake()

    def lost(self, error: LeaseHeld) -> None:
        """Another replicator has taken over: end, and let `error` say so."""
        self.error = error
        self.stop()

    def redelivery(self, plan: TablePlan) -> Redelivery:
        """A way to deliver rows of a table again, beside its loop.

        Raises:
            TargetError: the table in the target is not as the plan needs it.
        """
        return Redelivery(plan, self._shared)

    def join(self, seconds: float = STOP_SECONDS) -> bool:
        """Wait until every table has stopped; what has not after `seconds` cannot send any more.

        Returns:
            False when a thread still did not end: source and target must not be closed under it.
        """
        clock = self._shared.clock
        deadline = clock.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - clock.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self._shared.target.close()
            deadline = clock.monotonic() + END_SECONDS
            for thread in self._threads:
                thread.join(max(0.0, deadline - clock.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _start(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _unseen(self, table: TableId, unseen: Unseen) -> None:
        self._shared.marks.note_unseen(table, unseen.reason)
        self._shared.observer.unseen_noted(table, unseen)

    def _watch(self) -> None:
        """Look at memory and target now and then, and tell of them; see that this is still the replicator."""
        shared, looks = self._shared, 0
        round_trip: float | None = None
        while not shared.stop.is_set():
            if looks % LOOKS_PER_PING == 0:
                round_trip = shared.probe.round_trip()
                if round_trip is not None and round_trip > SLOW_SECONDS:
                    for loop in list(self._loops.values()):
                        loop.pressure.complain()
            if looks % LOOKS_PER_SIGHTING == 0 and shared.probe.lately():
                with suppress(CdcError):  # what is not remembered now is seen again
                    self._target_watch.look(list(self._loops.values()))
            shared.observer.measured(round_trip, shared.limits.look())
            looks += 1
            try:
                shared.marks.check_lease()
                for table in shared.marks.moved():
                    if table in self._loops:
                        self._loops[table].reload()
            except LeaseHeld as error:  # also while there is nothing to insert
                self.lost(error)
            except CdcError:  # a store that cannot be read halts the tables
                pass
            shared.clock.wait(shared.stop, LOOK_SECONDS)
