"""How does a comparison give way? After each piece of work it rests as long as the piece took.

Whatever it reads passes through here, so this is also where it sees that it is to stop, or that the table is
no longer as it was when the comparison began.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pyarrow as pa

from cdc.change import TablePlan
from cdc.clock import Clock
from cdc.comparison.compare import SourceRows, TargetRows
from cdc.replicator.delivery import Stopped

PIECE_SECONDS = 0.05
"""Less work than this is not worth a rest."""
LONGEST_REST_SECONDS = 1.0
"""A server that is sending waits meanwhile."""
CROWDED_SECONDS = 0.25


class Pacing:
    """The rests of one comparison; for one thread.

    Args:
        look: raises where the comparison has lost its sense.
        crowded: whether the process holds too much memory just now.
    """

    def __init__(
        self, clock: Clock, stop: threading.Event, look: Callable[[], None], crowded: Callable[[], bool]
    ) -> None:
        self._clock = clock
        self._stop = stop
        self._look = look
        self._crowded = crowded
        self._since = clock.monotonic()

    def rest(self) -> None:
        """Between two pieces of work.

        Raises:
            Stopped: a stop was asked for.
        """
        worked = self._clock.monotonic() - self._since
        if worked >= PIECE_SECONDS:
            self.wait(min(worked, LONGEST_REST_SECONDS))
        elif self._stop.is_set():
            raise Stopped
        while self._crowded():
            self.wait(CROWDED_SECONDS)

    def wait(self, seconds: float) -> None:
        """Raises:
        Stopped: a stop was asked for.
        """
        if self._clock.wait(self._stop, seconds):
            raise Stopped
        self._look()
        self._since = self._clock.monotonic()


class PacedSource:
    """The source's rows, with rests before each range; within one, a snapshot waits and may be superseded."""

    def __init__(self, source: SourceRows, pacing: Pacing) -> None:
        self._source = source
        self._pacing = pacing

    def rows(self, plan: TablePlan, low: str | None, high: str | None) -> pa.RecordBatchReader:
        self._pacing.rest()
        return self._source.rows(plan, low, high)


class PacedTarget:
    """The target's rows, with rests between batches."""

    def __init__(self, target: TargetRows, pacing: Pacing) -> None:
        self._target = target
        self._pacing = pacing

    def rows(
        self, plan: TablePlan, low: str | None, high: str | None, *, ordered: bool = True
    ) -> pa.RecordBatchReader:
        self._pacing.rest()
        reader = self._target.rows(plan, low, high, ordered=ordered)

        def batches() -> Iterator[pa.RecordBatch]:
            with reader:
                for batch in reader:
                    self._pacing.rest()
                    yield batch

        return pa.RecordBatchReader.from_batches(reader.schema, batches())
