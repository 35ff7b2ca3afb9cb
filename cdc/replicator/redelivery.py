"""How are rows of a table delivered again, beside its own loop? As any batch is, but no mark moves."""

from __future__ import annotations

import uuid
from dataclasses import replace
from types import TracebackType
from typing import Self

from cdc.change import Batch, TablePlan, schema_version
from cdc.replicator.delivery import Delivery
from cdc.replicator.pressure import Pressure
from cdc.replicator.shared_context import SharedContext
from cdc.stored import Decision


class Redelivery:
    """One table's, over a connection of its own; for one thread. A context manager.

    Limits, breaker, retries and the check of the lease are those of every delivery.
    """

    def __init__(self, plan: TablePlan, shared: SharedContext) -> None:
        """Raises:
        TargetError: the table in the target is not as the plan needs it.
        """
        self._shared = shared
        self._version = schema_version(plan)
        # A generation of its own: the server may remember these very rows from their first delivery.
        self._target = shared.target.open(plan, uuid.uuid4().int >> 65)
        self._delivery = Delivery(
            self._target,
            shared,
            Pressure(shared.clock),
            schema_version=self._version,
            failed_rows=shared.marks.load(plan.table).failed_rows,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._target.close()

    def send(self, batch: Batch) -> int:
        """Deliver `batch`, however long it takes; answers how many of its rows were set aside instead.

        Raises:
            Stopped: a stop was asked for while waiting.
            TargetError: with the meaning stop.
            LeaseHeld: another replicator has taken over; nothing was sent after that.
            StateError: the rows could not be set aside.
        """
        failed = self._delivery.place(replace(batch, mark=None))
        taken = self._delivery.taken(batch, failed)
        if failed or taken:
            self._shared.marks.commit(
                Decision(batch.plan.table, None, 0, 0, None, self._version, failed, delivered=taken)
            )
        return len(failed)
