"""A target that tells the mirror which rows it has acknowledged; the replicator knows nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cdc.change import Batch, Encoded, TablePlan
from cdc.replicator.ports import Target, TargetTable


@dataclass(frozen=True, slots=True)
class _Block:
    """A block, and the batch that it is of."""

    block: object
    batch: Batch


class MirroredTarget:
    """`target`, whose acknowledged batches are offered to the mirror."""

    def __init__(self, target: Target, offer: Callable[[Batch], None]) -> None:
        self._target = target
        self._offer = offer

    def __repr__(self) -> str:
        return f"MirroredTarget({self._target!r})"

    def open(self, plan: TablePlan, generation: int = 0) -> TargetTable:
        return _MirroredTable(self._target.open(plan, generation), self._offer)

    def ping(self) -> float:
        return self._target.ping()

    def close(self) -> None:
        self._target.close()


class _MirroredTable:
    def __init__(self, table: TargetTable, offer: Callable[[Batch], None]) -> None:
        self._table = table
        self._offer = offer

    def encode(self, batch: Batch) -> Encoded:
        encoded = self._table.encode(batch)
        return replace(encoded, block=_Block(encoded.block, batch))

    def send(self, encoded: Encoded) -> None:
        assert isinstance(encoded.block, _Block)
        self._table.send(replace(encoded, block=encoded.block.block))
        self._offer(encoded.block.batch)

    def close(self) -> None:
        self._table.close()
