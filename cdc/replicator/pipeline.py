"""Lets reading and encoding go on while the block before is being sent, with bounded memory. [R5]"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from cdc.change import Batch, Encoded
from cdc.replicator.delivery import Delivery, Stopped
from cdc.replicator.hold_decision import HoldDecision

DEPTH = 1
"""Blocks that wait between encoding and sending. One is enough to keep the sender busy; with the one being
sent and the one being encoded, memory is bounded by three batches and their blocks."""


@dataclass(slots=True, eq=False)
class InFlight:
    """One batch on its way."""

    batch: Batch
    """As it was read,"""
    admitted: HoldDecision
    """and what of it is delivered."""
    encoded: Encoded
    encode_seconds: float
    chunk: int | None = None
    """The number it is known by in the spool, now or later; None: it is never spooled."""
    durable: bool = False
    """It is in the spool, and its reader need not care any more."""
    nbytes: int = field(init=False)
    """What it takes in memory."""

    def __post_init__(self) -> None:
        self.nbytes = self.batch.nbytes + self.encoded.nbytes


class Pipeline:
    """A sending thread behind a short queue; batches are delivered in the order they were put.

    It is driven by one thread, and is a context manager: leaving it ends the sending thread, abandoning what
    was not yet being sent. An error of the sending thread is raised in the driving thread, by the next call.
    """

    def __init__(self, delivery: Delivery, name: str) -> None:
        self._delivery = delivery
        self._clock = delivery.clock
        self._changed = threading.Condition()
        self._waiting: deque[InFlight | Callable[[], None]] = deque()
        self._left = 0
        """What was put and is not done yet."""
        self._flying: deque[InFlight] = deque()
        self._acknowledged: deque[InFlight] = deque()
        self._moved_at = 0.0
        """When something was done last, or was put into the empty pipeline."""
        self._cpu_seconds = 0.0
        self._ending = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"send {name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abandon()
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join()

    def put(self, batch: Batch, admitted: HoldDecision | None = None) -> None:
        """Encode `batch`, or what is admitted of it, and hand it to the sending thread; waits while the queue
        is full."""
        self.start(batch, admitted)
        while not self.has_room(None):
            pass

    def start(
        self,
        batch: Batch,
        admitted: HoldDecision | None = None,
        *,
        chunk: int | None = None,
        durable: bool = False,
    ) -> None:
        """As `put`, without a wait: the caller sees to it that there is room."""
        self._raise()
        admitted = admitted or HoldDecision(batch)
        encoded, seconds = self._delivery.encode(admitted.batch)
        self._add(InFlight(batch, admitted, encoded, seconds, chunk, durable))

    def run(self, work: Callable[[], None]) -> None:
        """Have the sending thread do `work` after what was put before."""
        self._add(work)

    def has_room(self, seconds: float | None) -> bool:
        """Whether another batch may be put, within so many seconds; None: however long it takes."""
        if len(self._waiting) > DEPTH:  # only the caller puts more
            with self._changed:
                self._changed.wait_for(lambda: self._error or len(self._waiting) <= DEPTH, seconds)
        self._raise()
        return len(self._waiting) <= DEPTH

    def is_empty(self, seconds: float | None) -> bool:
        """Whether everything put so far is delivered, within so many seconds."""
        if self._left:
            with self._changed:
                self._changed.wait_for(lambda: self._error or not self._left, seconds)
        self._raise()
        return not self._left

    @property
    def in_flight(self) -> list[InFlight]:
        """The batches put and not delivered, in order."""
        with self._changed:
            return list(self._flying)

    @property
    def stuck_seconds(self) -> float:
        """For how long nothing was done although there is something to do."""
        with self._changed:
            return self._clock.monotonic() - self._moved_at if self._left else 0.0

    @property
    def sending_cpu_seconds(self) -> float:
        """Processor time that the sending thread has taken for what is done."""
        return self._cpu_seconds

    def take_delivered(self) -> list[InFlight]:
        """What was delivered since the last call, in order."""
        taken = []
        while self._acknowledged:
            taken.append(self._acknowledged.popleft())
        return taken

    def abandon(self) -> None:
        """Deliver nothing more; what is being sent is left as it is."""
        self._delivery.abandon()
        with self._changed:
            self._error = self._error or Stopped()
            self._changed.notify_all()

    def _add(self, item: InFlight | Callable[[], None]) -> None:
        with self._changed:
            if not self._left:
                self._moved_at = self._clock.monotonic()
            self._left += 1
            if isinstance(item, InFlight):
                self._flying.append(item)
                self._delivery.limits.wait(item.nbytes)
            self._waiting.append(item)
            self._changed.notify_all()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        born = self._clock.thread_cpu()
        while (item := self._next()) is not None:
            try:
                if self._error is None:  # after an error, order would be lost: the rest is abandoned
                    self._do(item)
            except BaseException as error:  # noqa: BLE001 - raised again in the driving thread
                self._error = error
            finally:
                self._cpu_seconds = self._clock.thread_cpu() - born  # before anyone is told that it is done
                self._done(item)

    def _next(self) -> InFlight | Callable[[], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            if not self._waiting:
                return None
            self._changed.notify_all()
            return self._waiting.popleft()

    def _do(self, item: InFlight | Callable[[], None]) -> None:
        if not isinstance(item, InFlight):
            item()
            return
        admitted = item.admitted
        self._delivery.deliver(admitted.batch, item.encoded, item.encode_seconds, admitted, item.chunk)
        self._acknowledged.append(item)

    def _done(self, item: InFlight | Callable[[], None]) -> None:
        with self._changed:
            if isinstance(item, InFlight):
                self._flying.popleft()
                self._delivery.limits.wait(-item.nbytes)
            self._left -= 1
            self._moved_at = self._clock.monotonic()
            self._changed.notify_all()
