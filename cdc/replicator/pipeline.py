"""Lets reading and encoding go on while the block before is being sent, with bounded memory. [R5]"""

from __future__ import annotations

import queue
import threading
from collections import deque
from types import TracebackType
from typing import Self

from cdc.change import Batch, Encoded
from cdc.replicator.admitted import Admitted
from cdc.replicator.delivery import Delivery, Stopped

DEPTH = 1
"""Blocks that wait between encoding and sending. One is enough to keep the sender busy; with the one being
sent and the one being encoded, memory is bounded by three batches and their blocks."""


class Pipeline:
    """A sending thread behind a short queue; batches are delivered in the order they were put.

    It is driven by one thread, and is a context manager: leaving it ends the sending thread, abandoning what
    was not yet being sent. An error of the sending thread is raised in the driving thread, by the next call.
    """

    def __init__(self, delivery: Delivery, name: str) -> None:
        self._delivery = delivery
        self._queue: queue.Queue[tuple[Batch, Admitted, Encoded, float] | None] = queue.Queue(DEPTH)
        self._acknowledged: deque[Batch] = deque()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"send {name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._error = self._error or Stopped()  # what waits in the queue is not sent
        self._queue.put(None)
        self._thread.join()

    def put(self, batch: Batch, admitted: Admitted | None = None) -> None:
        """Encode `batch`, or what is admitted of it, and hand it to the sending thread; waits while the queue
        is full."""
        self._raise()
        admitted = admitted or Admitted(batch)
        self._queue.put((batch, admitted, *self._delivery.encode(admitted.batch)))

    def drain(self) -> None:
        """Wait until everything put so far is delivered."""
        self._queue.join()
        self._raise()

    def take_acknowledged(self) -> list[Batch]:
        """The batches delivered since the last call, in order."""
        taken = []
        while self._acknowledged:
            taken.append(self._acknowledged.popleft())
        return taken

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if self._error is None:  # after an error, order would be lost: the rest is abandoned
                    batch, admitted, encoded, seconds = item
                    self._delivery.deliver(admitted.batch, encoded, seconds, admitted)
                    self._acknowledged.append(batch)
            except BaseException as error:  # noqa: BLE001 - raised again in the driving thread
                self._error = error
            finally:
                self._queue.task_done()
        self._queue.task_done()
