"""Brings one batch into the target and stores what that decided: the mark moves only once acknowledged.

A batch the target refuses for its data is halved until the bad rows are alone; those become failed rows, the
rest is delivered, and the mark moves past both in one transaction. [F5, R1, R2]
"""

from __future__ import annotations

import random
import threading

from cdc.change import Batch, Decision, Encoded, FailedRow
from cdc.clock import Clock
from cdc.errors import Meaning, TargetError
from cdc.replicator.breaker import Breaker
from cdc.replicator.ports import Delivered, Marks, Observer, TargetTable
from cdc.replicator.retry import Backoff


class Stopped(Exception):
    """Work was abandoned because a stop was asked for; the mark has not moved past it."""


class Delivery:
    """Encodes and sends the batches of one table. Each method is used by one thread at a time.

    It promises: when `deliver` returns, every row is in the target or among the failed rows, durably, and the
    mark has moved; when it raises, the mark has not moved. It does not promise that nothing of the batch
    reached the target: the next attempt sends it again with the same deduplication token.
    """

    def __init__(
        self,
        target: TargetTable,
        marks: Marks,
        observer: Observer,
        *,
        backoff: Backoff,
        breaker: Breaker,
        clock: Clock,
        stop: threading.Event,
        rng: random.Random,
        schema_version: str,
    ) -> None:
        self._target = target
        self._marks = marks
        self._observer = observer
        self._backoff = backoff
        self._breaker = breaker
        self._clock = clock
        self._stop = stop
        self._rng = rng
        self._schema_version = schema_version

    def encode(self, batch: Batch) -> tuple[Encoded, float]:
        """The batch as one block, and the seconds it took."""
        started = self._clock.monotonic()
        return self._target.encode(batch), self._clock.monotonic() - started

    def deliver(self, batch: Batch, encoded: Encoded, encode_seconds: float) -> None:
        """Send the block, retrying as long as it takes, and commit what was decided.

        Raises:
            Stopped: a stop was asked for while waiting to retry.
            TargetError: with the meaning stop.
            StateError: the decision could not be stored.
        """
        started = self._clock.monotonic()
        failed = self._place(batch, encoded)
        acknowledged = self._clock.monotonic()
        delivered = len(batch) - len(failed)
        self._marks.commit(
            Decision(
                table=batch.plan.table,
                mark=batch.mark,
                rows=delivered,
                bytes=encoded.nbytes,
                position=batch.position,
                schema_version=self._schema_version,
                failed=failed,
            )
        )
        self._observer.delivered(
            Delivered(
                table=batch.plan.table,
                target=batch.plan.target,
                rows=delivered,
                bytes=encoded.nbytes,
                failed_rows=len(failed),
                mark=batch.mark,
                position=batch.position,
                lag_seconds=acknowledged - batch.seen_at,
                encode_seconds=encode_seconds,
                send_seconds=acknowledged - started,
            )
        )

    def place(self, batch: Batch) -> tuple[FailedRow, ...]:
        """Encode and send `batch` without deciding anything; the rows that cannot be loaded are returned.

        Raises:
            Stopped, TargetError: as `deliver`.
        """
        return self._place(batch, self._target.encode(batch))

    def _place(self, batch: Batch, encoded: Encoded) -> tuple[FailedRow, ...]:
        """Deliver what the target takes of the batch; the rows it never will are returned."""
        if not encoded.rows:
            return encoded.rejected
        try:
            self._send(batch, encoded)
        except TargetError as error:
            if error.meaning is not Meaning.POISON:
                raise
            if len(batch) == 1:
                return (batch.failed_row(0, error.problem),)
            middle = len(batch) // 2
            halves = (batch.slice(0, middle), batch.slice(middle, len(batch) - middle))
            return tuple(row for half in halves for row in self._place(half, self._target.encode(half)))
        return encoded.rejected

    def _send(self, batch: Batch, encoded: Encoded) -> None:
        attempt = 0
        while True:
            self._await_permission()
            try:
                self._target.send(encoded)
            except TargetError as error:
                if error.meaning is not Meaning.RETRY:
                    self._breaker.succeeded()  # it answered
                    raise
                self._breaker.failed()
                attempt += 1
                delay = self._backoff.delay(attempt, self._rng)
                self._observer.retried(batch.plan.table, error, attempt, delay)
                self._wait(delay)
            else:
                self._breaker.succeeded()
                return

    def _await_permission(self) -> None:
        while (delay := self._breaker.delay()) > 0:
            self._wait(delay)

    def _wait(self, seconds: float) -> None:
        if self._clock.wait(self._stop, seconds):
            raise Stopped
