"""How far each table has been delivered: the mark's values, the store, the lease and the failed rows."""

from cdc.watermark.failed import FailedRecord
from cdc.watermark.lease import Lease, Owner, holder
from cdc.watermark.marks import BoundMarks, MarkColumns
from cdc.watermark.store import Store, TableRecord, open_store, set_aside
from cdc.watermark.value import MarkType, mark_type

__all__ = [
    "BoundMarks",
    "FailedRecord",
    "Lease",
    "MarkColumns",
    "MarkType",
    "Owner",
    "Store",
    "TableRecord",
    "holder",
    "mark_type",
    "open_store",
    "set_aside",
]
