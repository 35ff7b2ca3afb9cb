"""A table of the target that is opened when it is first needed: while the target is away, it is not."""

from __future__ import annotations

from collections.abc import Callable

from cdc.change import Batch, Encoded
from cdc.errors import TargetError
from cdc.replicator.ports import TargetTable


class LazyTable:
    """Opened by the first `encode`, which then raises what opening raises."""

    def __init__(
        self,
        open_table: Callable[[], TargetTable],
        table: TargetTable | None = None,
        error: TargetError | None = None,
    ) -> None:
        """`error`: why it could not be opened yet."""
        self._open = open_table
        self._table = table
        self.error = error

    def __repr__(self) -> str:
        return f"LazyTable({self._table!r})"

    @property
    def opened(self) -> bool:
        return self._table is not None

    def open(self) -> TargetTable:
        """Open it now, if it is not.

        Raises:
            TargetError: as opening it does.
        """
        if self._table is None:
            self._table = self._open()
        return self._table

    def encode(self, batch: Batch) -> Encoded:
        return self.open().encode(batch)

    def send(self, encoded: Encoded) -> None:
        self.open().send(encoded)

    def close(self) -> None:
        if self._table is not None:
            self._table.close()
