"""Brings one batch into the target and stores what that decided: the mark moves only once acknowledged.

A batch the target refuses for its data is halved until the bad rows are alone; those become failed rows, the
rest is delivered, and the mark moves past both in one transaction. [F5, R1, R2]
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc.change import Batch, Encoded, FailedRow
from cdc.errors import Meaning, Relief, TargetError
from cdc.failed_row import failed_row
from cdc.replicator.hold_decision import HoldDecision
from cdc.replicator.identity import keys
from cdc.replicator.ports import Delivered, TargetTable
from cdc.replicator.pressure import Pressure
from cdc.replicator.shared_context import SharedContext
from cdc.stored import Decision

LOOK_SECONDS = 1.0
"""How often a wait looks whether it can end early."""
WHOLE_ATTEMPTS = 2
"""After so many failures for want of memory a block is sent in halves."""


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
        shared: SharedContext,
        pressure: Pressure,
        *,
        schema_version: str,
        failed_rows: int = 0,
    ) -> None:
        """`failed_rows`: how many of the table are stored already."""
        self._target = target
        self._shared = shared
        self._pressure = pressure
        self.clock = shared.clock
        self.limits = shared.limits
        self._schema_version = schema_version
        self._abandoned = False
        self._sent_at = float("-inf")
        self.failed_rows = failed_rows
        """How many of the table's rows are set aside, as far as this object had a part in it."""
        self.delivered_rows = 0
        """How many of the table's rows this object has brought into the target."""
        self.failing_since: float | None = None
        """When the target first did not take what it was sent, of a time that goes on (monotonic seconds)."""
        self.sending_since: float | None = None
        """When the block that the target has not taken yet was first to be sent (monotonic seconds). The time
        that the limits make it wait before does not count: it is wanted."""

    def encode(self, batch: Batch) -> tuple[Encoded, float]:
        """The batch as one block, and the seconds it took."""
        started = self.clock.monotonic()
        encoded = self._target.encode(batch) if len(batch) else Encoded(None, 0, 0, "")
        return encoded, self.clock.monotonic() - started

    def deliver(
        self,
        batch: Batch,
        encoded: Encoded,
        encode_seconds: float,
        admitted: HoldDecision | None = None,
        chunk: int | None = None,
    ) -> None:
        """Send the block, retrying as long as it takes, and commit what was decided.

        Args:
            admitted: what `batch` is of, where rows wait for their group: stored in the same commit.
            chunk: the number by which the spool has the batch, if it has it: removed in the same commit.

        Raises:
            Stopped: a stop was asked for while waiting to retry.
            TargetError: with the meaning stop.
            LeaseHeld: another replicator has taken over; nothing was sent after that.
            StateError: the decision could not be stored.
        """
        # Once for a batch and not for the pieces it may have to be cut into: those would take for ever.
        self._wait(self._sent_at + self._pressure.gap(0.0) - self.clock.monotonic())
        started = self.clock.monotonic()
        failed = self._place(batch, encoded)
        acknowledged = self._sent_at = self.clock.monotonic()
        delivered = len(batch) - len(failed)
        admitted = admitted or HoldDecision(batch)
        failed += admitted.failed
        forgotten = self._shared.marks.commit(
            Decision(
                table=batch.plan.table,
                mark=batch.mark,
                rows=delivered,
                bytes=encoded.nbytes,
                position=batch.position,
                schema_version=self._schema_version,
                failed=failed,
                delivered=self.taken(batch, failed),
                holding=admitted.holding,
                chunk=chunk,
            )
        )
        self.failed_rows += len(failed) - forgotten
        self.delivered_rows += delivered
        if admitted.early is not None:
            self._shared.observer.delivered_early(batch.plan.table, admitted.early)
        if admitted.waiting is not None:
            self._shared.observer.held(batch.plan.table, admitted.waiting)
        self._shared.observer.delivered(
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

    def taken(self, batch: Batch, failed: Sequence[FailedRow]) -> dict[tuple[str, ...], int]:
        """The keys of `batch` that the target took, for `Decision.delivered`; nothing where no row is set
        aside, which is nearly always, for it costs a text for each key."""
        if not self.failed_rows:
            return {}
        refused = {(row.key, row.version) for row in failed}
        found: dict[tuple[str, ...], int] = {}
        names = keys(batch.rows, batch.plan.key)
        for key, version in zip(names, batch.versions.to_pylist(), strict=True):
            known = tuple(text or "" for text in key)
            if (known, version) not in refused:
                found[known] = max(version, found.get(known, 0))
        return found

    def abandon(self) -> None:
        """End every wait: nothing more is to be delivered. Safe from any thread."""
        self._abandoned = True

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
            if error.meaning is Meaning.POISON and len(batch) == 1:
                return (failed_row(batch, 0, error.problem),)
            if error.meaning is not Meaning.POISON and not _is_too_large(error):
                raise
            middle = len(batch) // 2
            halves = (batch.slice(0, middle), batch.slice(middle, len(batch) - middle))
            return tuple(row for half in halves for row in self._place(half, self._target.encode(half)))
        return encoded.rejected

    def _send(self, batch: Batch, encoded: Encoded) -> None:
        shared, attempt = self._shared, 0
        while True:
            self._await_permission(encoded)
            shared.marks.check_lease()
            began = self.clock.monotonic()
            try:
                self._target.send(encoded)
            except TargetError as error:
                if error.meaning is not Meaning.RETRY:
                    shared.breaker.succeeded()  # it answered
                    self.failing_since = self.sending_since = None
                    raise
                shared.breaker.failed()
                if self.failing_since is None:
                    self.failing_since = self.clock.monotonic()
                attempt += 1
                if error.relief is not None:
                    self._pressure.complain()
                delay = shared.backoff.delay(attempt, shared.rng)
                shared.observer.retried(batch.plan.table, error, attempt, delay)
                self._wait_for_target(delay, error, began)
                if _is_too_large(error) and attempt >= WHOLE_ATTEMPTS and len(batch) > 1:
                    raise
            else:
                shared.breaker.succeeded()
                self.failing_since = self.sending_since = None
                return

    def _await_permission(self, encoded: Encoded) -> None:
        """Wait for the limits and for the breaker."""
        self._wait(self._shared.limits.take(encoded.rows))
        if self.sending_since is None:
            self.sending_since = self.clock.monotonic()
        while (delay := self._shared.breaker.delay()) > 0:
            self._wait(min(delay, LOOK_SECONDS))  # another table's probe may close it meanwhile

    def _wait_for_target(self, seconds: float, error: TargetError, began: float) -> None:
        """Wait; a target that was silent since the attempt `began` and answers again ends the wait, for that
        is what it was for.

        One that answers all the time has another trouble, which a ping does not show to be over.
        """
        until, reach = self.clock.monotonic() + seconds, self._shared.probe
        while (left := until - self.clock.monotonic()) > 0:
            if (
                error.code is None
                and seconds > LOOK_SECONDS
                and reach.answers()
                and reach.silent_since(began)
            ):
                self._shared.breaker.half_open()
                return
            self._wait(min(left, LOOK_SECONDS))

    def _wait(self, seconds: float) -> None:
        if seconds > 0 and self.clock.wait(self._shared.stop, seconds):
            raise Stopped
        if self._abandoned:
            raise Stopped


def _is_too_large(error: TargetError) -> bool:
    return error.relief is Relief.SMALLER
