"""A target that offers the copy each batch on its way; the replicator knows nothing of it.

A batch is offered when it is encoded, not once it is acknowledged, or by `offer` when it is spooled: while
the target is away, what was read and is not there yet stands in Redis. [R5]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cdc.change import Batch, Encoded, TableId, TablePlan
from cdc.replicator.ports import Target, TargetTable
from cdc.sighting import Sighting


class CopiedTarget:
    """`target`, whose batches are offered to the copy too."""

    def __init__(self, target: Target, offer: Callable[[Batch], None]) -> None:
        self._target = target
        self.offer = offer

    def __repr__(self) -> str:
        return f"CopiedTarget({self._target!r})"

    def open(self, plan: TablePlan, generation: int = 0) -> TargetTable:
        return _CopiedTable(self._target.open(plan, generation), self.offer)

    def sightings(self, plans: Sequence[TablePlan]) -> Mapping[TableId, Sighting | None]:
        return self._target.sightings(plans)

    def newest_version(self, plan: TablePlan) -> int | None:
        return self._target.newest_version(plan)

    def ping(self) -> float:
        return self._target.ping()

    def close(self) -> None:
        self._target.close()


class _CopiedTable:
    def __init__(self, table: TargetTable, offer: Callable[[Batch], None]) -> None:
        self._table = table
        self._offer = offer

    def encode(self, batch: Batch) -> Encoded:
        self._offer(batch)
        return self._table.encode(batch)

    def send(self, encoded: Encoded) -> None:
        self._table.send(encoded)

    def close(self) -> None:
        self._table.close()
