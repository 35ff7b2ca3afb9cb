"""How does a comparison give way? After each piece of work it rests: as long as the piece took, or longer.

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
MOST_REST_SECONDS = 60.0
"""At once: a server gives up sending after five minutes in which nothing was taken."""
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


class SharePacing(Pacing):
    """Rests so long that of a core only a share is taken, until there is something to mend.

    What a piece took is the processor time of the whole process meanwhile, or the time that passed, which is
    the server's if this process waited for it: whichever is more. So where tables are busy it rests longer.
    """

    def __init__(
        self,
        clock: Clock,
        stop: threading.Event,
        look: Callable[[], None],
        crowded: Callable[[], bool],
        cpu_percent: float,
        process_cpu: Callable[[], float],
    ) -> None:
        """`process_cpu` gives the processor time that the process has taken, in seconds."""
        super().__init__(clock, stop, look, crowded)
        self._rests_per_work = 100.0 / cpu_percent - 1.0
        self._process_cpu = process_cpu
        self._cpu_since = process_cpu()
        self._owed = 0.0
        self.hurried = False
        """Rows are known to differ: it rests as a reconciliation does."""

    def rest(self) -> None:
        """Raises:
        Stopped: a stop was asked for.
        """
        if self.hurried:
            super().rest()
            return
        now = self._clock.monotonic()
        took = max(now - self._since, self._process_cpu() - self._cpu_since)
        self._owed += took * self._rests_per_work
        self._since = now
        self._cpu_since = self._process_cpu()
        if self._owed >= PIECE_SECONDS:
            until = now + min(self._owed, MOST_REST_SECONDS)
            while (left := until - self._clock.monotonic()) > 0:
                self.wait(min(left, LONGEST_REST_SECONDS))
            self._owed = max(0.0, self._owed - (self._clock.monotonic() - now))
            self._cpu_since = self._process_cpu()
        elif self._stop.is_set():
            raise Stopped
        while self._crowded():
            self.wait(CROWDED_SECONDS)


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
