"""The state store: what a replicator remembers over restarts, and the lease that makes it the only one."""

from cdc.state.breaks import Break, Breaks
from cdc.state.database import Mode
from cdc.state.failed import FailedRecord
from cdc.state.lease import HeldLease, Lease, Leases, Owner, holder
from cdc.state.store import Store, TableRecord, open_store, set_aside

__all__ = [
    "Break",
    "Breaks",
    "FailedRecord",
    "HeldLease",
    "Lease",
    "Leases",
    "Mode",
    "Owner",
    "Store",
    "TableRecord",
    "holder",
    "open_store",
    "set_aside",
]
