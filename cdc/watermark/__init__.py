"""How far each table has been delivered: the mark's values, the store, the lease and the failed rows."""

from cdc.watermark.breaks import Break, Breaks
from cdc.watermark.columns import MarkColumns
from cdc.watermark.database import Mode
from cdc.watermark.failed import FailedRecord
from cdc.watermark.lease import Lease, Owner, holder
from cdc.watermark.marks import BoundMarks, Leases
from cdc.watermark.reset import Change, Rebuilt, apply_reset, no_replicator, plan_reset, rebuild
from cdc.watermark.store import Store, TableRecord, open_store, set_aside
from cdc.watermark.value import MarkType, mark_type

__all__ = [
    "BoundMarks",
    "Break",
    "Breaks",
    "Change",
    "FailedRecord",
    "Lease",
    "Leases",
    "MarkColumns",
    "MarkType",
    "Mode",
    "Owner",
    "Rebuilt",
    "Store",
    "TableRecord",
    "apply_reset",
    "holder",
    "mark_type",
    "no_replicator",
    "open_store",
    "plan_reset",
    "rebuild",
    "set_aside",
]
