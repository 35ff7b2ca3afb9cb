"""Where does each batch go: to the target, or while that is away to the spool? Reading never waits long. [R4]

A batch goes to the pipeline as long as the target takes what it is sent. Once it has failed for a second,
what is on its way is made durable in the spool, and what is read after that goes behind it. When the target
is back, the pipeline goes on with the first of it, and is fed from the spool until nothing is left there. So
batches are delivered in the order they were read, whichever way they go.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from cdc.change import Batch, Mark, TablePlan
from cdc.replicator.breaker import BreakerState
from cdc.replicator.delivery import Delivery, Stopped
from cdc.replicator.group_hold import GroupHold
from cdc.replicator.hold_decision import HoldDecision
from cdc.replicator.lazy_table import LazyTable
from cdc.replicator.pipeline import Pipeline
from cdc.replicator.ports import TableReader
from cdc.replicator.shared_context import SharedContext
from cdc.replicator.spool import Spool

PATIENCE_SECONDS = 1.0
"""A target that fails for less is waited for: a restart of the connection is no outage."""
LOOK_SECONDS = 0.1
"""How often a wait looks whether the target has gone away, or another table has made room."""


class DeliveryRoute:
    """The way of one table's batches. For one thread; a context manager, around that of the pipeline."""

    def __init__(
        self,
        plan: TablePlan,
        shared: SharedContext,
        reader: TableReader,
        pipeline: Pipeline,
        delivery: Delivery,
        hold: GroupHold,
        spool: Spool,
        target: LazyTable,
    ) -> None:
        self._plan = plan
        self._shared = shared
        self._clock = shared.clock
        self._reader = reader
        self._pipeline = pipeline
        self._delivery = delivery
        self._hold = hold
        self._spool = spool
        self._target = target
        self.mark: Mark | None = None
        """Where reading goes on: what was read up to there is delivered or in the spool."""

    def __repr__(self) -> str:
        return f"DeliveryRoute({self._plan.table}, {self._spool!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipeline.abandon()  # what is not delivered is durable, or is read again

    @property
    def busy(self) -> bool:
        """Something read is not delivered yet, or could not be."""
        return self._spool.backlog or not self._target.opened or not self._pipeline.is_empty(0.0)

    @property
    def away(self) -> bool:
        """The target has not been taking anything for a while, and has shown that it cannot."""
        if not self._target.opened:
            return not self._shared.probe.lately()
        failing = self._delivery.failing_since
        if failing is not None and self._clock.monotonic() - failing >= PATIENCE_SECONDS:
            return True
        if self._pipeline.stuck_seconds < PATIENCE_SECONDS:
            return False
        return self._shared.breaker.state is not BreakerState.CLOSED or not self._shared.probe.lately()

    @property
    def _well(self) -> bool:
        """The target is not away; said without a look at the clock where it took what it was sent last. That
        one which is stuck is away is seen by whoever waits for it."""
        return (self._target.opened and self._delivery.failing_since is None) or not self.away

    def take(self, batch: Batch) -> None:
        """Have `batch` delivered, or spooled; waits while neither is possible.

        Raises:
            Stopped, TargetError, LeaseHeld, StateError: as `Delivery.deliver`, of this batch or one before.
        """
        spool, pipeline = self._spool, self._pipeline
        while True:
            if spool.backlog or (spool.enabled and not self._well):
                if self._secure() and spool.gather(batch):
                    if self._shared.copied is not None:
                        self._shared.copied(batch)
                    self._past(batch)
                    return
                self.tend(LOOK_SECONDS)  # until there is room, or nothing before the batch any more
            elif pipeline.has_room(LOOK_SECONDS):
                pipeline.start(batch, self._hold.admit(batch), chunk=spool.number())
                break
            self._check_stop()
        self._wait(pipeline.has_room)

    def settle(self) -> None:
        """Wait until everything taken is delivered or durable.

        Raises:
            Stopped, TargetError, LeaseHeld, StateError: as `take`.
        """
        if not self._spool.backlog:
            self._wait(self._pipeline.is_empty)

    def emit(self, admitted: HoldDecision) -> None:
        """Deliver rows that were held, which are stored elsewhere until then.

        Raises:
            Stopped, TargetError, LeaseHeld, StateError: as `take`.
        """
        self._pipeline.start(admitted.batch, admitted)
        self._wait(self._pipeline.is_empty)

    def run(self, work: Callable[[], None]) -> None:
        """Have work that needs the target done after what was taken; its errors are raised as by `take`."""
        self._pipeline.run(work)
        self._wait(self._pipeline.is_empty)

    def flush(self) -> None:
        """Store what is gathered for the spool.

        Raises:
            StateError: it was not stored.
        """
        self._spool.flush()

    def tend(self, seconds: float) -> None:
        """Send of the spool what the target takes; waits for so long for it to take more.

        Raises:
            Stopped, TargetError, LeaseHeld, StateError: as `take`.
        """
        self._acknowledge()
        self._spool.flush_due()
        if not self._target.opened and not self.away:
            self._target.open()
        while self._spool.backlog and not self.away and self._pipeline.has_room(0.0):
            number, batch, durable = self._spool.take()
            self._pipeline.start(batch, self._hold.admit(batch), chunk=number, durable=durable)
        if self.away:
            if self._clock.wait(self._shared.stop, seconds):
                raise Stopped
        elif self._spool.backlog:
            self._pipeline.has_room(seconds)
        else:
            self._pipeline.is_empty(seconds)
        self._acknowledge()

    def _wait(self, done: Callable[[float], bool]) -> None:
        """Until it is done, or what is on its way is durable."""
        while not done(LOOK_SECONDS):
            self._check_stop()
            self._spool.flush_due()
            if self._spool.enabled and self.away and self._secure():
                break
        self._acknowledge()

    def _secure(self) -> bool:
        flying = [each for each in self._pipeline.in_flight if not each.durable]
        if not self._spool.secure(flying):
            return False
        for each in flying:
            if each.durable:
                self._past(each.batch)
        return True

    def _acknowledge(self) -> None:
        delivered = self._pipeline.take_delivered()
        for each in delivered:
            if not each.durable and each.chunk is not None:
                self._past(each.batch)
        self._spool.delivered(each.chunk for each in delivered)

    def _past(self, batch: Batch) -> None:
        """Reading need not come back to `batch`."""
        self._reader.acknowledged(batch)
        self.mark = batch.mark or self.mark

    def _check_stop(self) -> None:
        if self._shared.stop.is_set():
            raise Stopped
