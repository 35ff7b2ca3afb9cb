"""Keeps one table of the target equal to its source: set up, read past the mark, deliver, wait, again.

Each table runs alone: what halts one leaves the others going. A halted table is set up again after a while,
so that once the cause is mended nothing needs to be restarted.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from cdc.change import BatchLimits, Mark, TablePlan, schema_version
from cdc.clock import Clock
from cdc.errors import CdcError, Meaning
from cdc.replicator.breaker import Breaker
from cdc.replicator.delivery import Delivery, Stopped
from cdc.replicator.failed import retry_due
from cdc.replicator.pipeline import Pipeline
from cdc.replicator.ports import Marks, Observer, Source, TableReader, Target
from cdc.replicator.retry import Backoff


class TableState(Enum):
    SETUP = "setup"
    SNAPSHOT = "snapshot"
    """Reading what was there before: nothing was caught up with yet in this run."""
    RUNNING = "running"
    PAUSED = "paused"
    RESYNC = "resync"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how much: every bound of one table's work.

    `linger_ms` is the shortest time between two reads: a change after a pause is delivered at once, a burst
    is gathered. `interval_seconds` above 0 asks for one read per interval instead of one per change. [F9]
    """

    limits: BatchLimits = field(default_factory=lambda: BatchLimits(rows=100_000, bytes=32 << 20))
    linger_ms: float = 10.0
    interval_seconds: float = 0.0
    idle_seconds: float = 60.0
    """The longest wait for a change: after it the source is read anyway."""
    halted_seconds: float = 60.0
    """How long a halted table waits before it is set up again."""
    retry_failed_seconds: float = 10.0
    """How often failed rows are looked for whose next attempt is due."""

    @property
    def gap_seconds(self) -> float:
        return max(self.interval_seconds, self.linger_ms / 1000.0)


class TableLoop:
    """Replicates one table until told to stop. `run` belongs to one thread."""

    def __init__(
        self,
        plan: TablePlan,
        source: Source,
        target: Target,
        marks: Marks,
        observer: Observer,
        *,
        pace: Pace,
        backoff: Backoff,
        breaker: Breaker,
        clock: Clock,
        stop: threading.Event,
        rng: random.Random,
        plan_again: Callable[[TablePlan], TablePlan] | None = None,
    ) -> None:
        self._plan = plan
        self._source = source
        self._target = target
        self._marks = marks
        self._observer = observer
        self._pace = pace
        self._backoff = backoff
        self._breaker = breaker
        self._clock = clock
        self._stop = stop
        self._rng = rng
        self._plan_again = plan_again
        self._setups_failed = 0
        self.state = TableState.SETUP

    def __repr__(self) -> str:
        return f"TableLoop({self._plan.table} → {self._plan.target}, {self.state.value})"

    def run(self) -> None:
        """Replicate until the stop event is set; no error leaves this method."""
        while not self._stop.is_set():
            try:
                self._replicate()
            except Stopped:
                return
            except CdcError as error:
                self._halt(error)
            except Exception as error:  # noqa: BLE001 - one table must not take the others along
                self._halt(_unexpected(self._plan, error))

    def _replicate(self) -> None:
        self._enter(TableState.SETUP)
        if self._plan_again is not None and self._setups_failed:
            self._plan = self._plan_again(self._plan)
        target = self._target.open(self._plan)
        self._marks.describe(self._plan)
        progress = self._marks.load(self._plan.table)
        delivery = Delivery(
            target,
            self._marks,
            self._observer,
            backoff=self._backoff,
            breaker=self._breaker,
            clock=self._clock,
            stop=self._stop,
            rng=self._rng,
            schema_version=schema_version(self._plan),
        )
        reader = self._source.open(self._plan, progress.position)
        try:
            with Pipeline(delivery, str(self._plan.table)) as pipeline:
                self._follow(reader, pipeline, delivery, progress.mark)
        finally:
            reader.close()
            target.close()

    def _follow(self, reader: TableReader, pipeline: Pipeline, delivery: Delivery, mark: Mark | None) -> None:
        self._enter(TableState.SNAPSHOT)
        retry_at = self._clock.monotonic()
        while not self._stop.is_set():
            started = self._clock.monotonic()
            position = self._source.position()  # before the read: a change during it ends the wait below
            for batch in reader.read(mark, self._pace.limits):
                if self._stop.is_set():
                    raise Stopped
                pipeline.put(batch)
                mark = self._acknowledge(reader, pipeline, mark)
            pipeline.drain()
            mark = self._acknowledge(reader, pipeline, mark)
            self._setups_failed = 0
            self._enter(TableState.RUNNING)
            self._observer.cycle(self._plan.table, 0)
            if started >= retry_at:
                retry_due(self._plan, self._marks, delivery)
                retry_at = started + self._pace.retry_failed_seconds
            self._rest(started + self._pace.gap_seconds - self._clock.monotonic())
            self._source.wait(position, min(self._pace.idle_seconds, self._pace.retry_failed_seconds))

    def _acknowledge(self, reader: TableReader, pipeline: Pipeline, mark: Mark | None) -> Mark | None:
        for batch in pipeline.take_acknowledged():
            reader.acknowledged(batch)
            mark = batch.mark or mark
        return mark

    def _halt(self, error: CdcError) -> None:
        """Show why the table halted, and rest before it is set up again."""
        self._setups_failed += 1
        if error.meaning is Meaning.RETRY:
            delay = self._backoff.delay(self._setups_failed, self._rng)
            self._enter(TableState.PAUSED, error)
            self._observer.retried(self._plan.table, error, self._setups_failed, delay)
        else:
            delay = self._pace.halted_seconds
            self._enter(TableState.FAILED, error)
        self._clock.wait(self._stop, delay)

    def _rest(self, seconds: float) -> None:
        if seconds > 0 and self._clock.wait(self._stop, seconds):
            raise Stopped

    def _enter(self, state: TableState, error: CdcError | None = None) -> None:
        if state is not self.state or error is not None:
            self.state = state
            self._observer.state(self._plan.table, state.value, error)


def _unexpected(plan: TablePlan, error: Exception) -> CdcError:
    wrapped = CdcError(
        "replicate",
        plan.table,
        f"unexpected {type(error).__name__}: {error}",
        "This is a defect: report it with the log. The table halts; its mark has not moved past the error",
    )
    wrapped.__cause__ = error
    return wrapped
