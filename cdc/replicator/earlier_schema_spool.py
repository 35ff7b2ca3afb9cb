"""What becomes of spooled rows that were read by another plan, of other columns? [R10]

The table is read anew when its columns have changed; but some of these rows may be gone from the source by
then, as old trades are pruned. So they are delivered as they were read, while the target has the columns.
"""

from __future__ import annotations

from dataclasses import replace

from cdc.change import Batch
from cdc.errors import Meaning, TargetError
from cdc.replicator.delivery import Delivery
from cdc.replicator.pressure import Pressure
from cdc.replicator.shared_context import SharedContext
from cdc.replicator.spool import Spool
from cdc.stored import SpoolChunk


def deliver_spool_of_earlier_schema(
    spool: Spool, shared: SharedContext, pressure: Pressure, generation: int
) -> None:
    """Deliver the chunks of other plans, or drop what the target does not take. Load the spool after this.

    Raises:
        Stopped, LeaseHeld, StateError: as `Delivery.deliver`.
        TargetError: it is away.
    """
    for chunk in spool.older():
        # Moves nothing: a mark of other columns may mean nothing now, and all is read again.
        batch = replace(spool.load(chunk.number), mark=None, position=None)
        try:
            _deliver(batch, chunk, shared, pressure, generation)
        except TargetError as error:
            if error.meaning is Meaning.RETRY:
                raise
            spool.discard(chunk.number, f"read with other columns, which the target does not take: {error}")
        else:
            spool.delivered([chunk.number])


def _deliver(
    batch: Batch, chunk: SpoolChunk, shared: SharedContext, pressure: Pressure, generation: int
) -> None:
    target = shared.target.open(batch.plan, generation)
    try:
        delivery = Delivery(target, shared, pressure, schema_version=chunk.schema_version)
        delivery.deliver(batch, *delivery.encode(batch), None, chunk.number)
    finally:
        target.close()
