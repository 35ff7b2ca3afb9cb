"""What a person and a monitoring system can see of a replicator: log, metrics, status file, page."""

from cdc.observe.log import logging_to
from cdc.observe.metrics import Metrics
from cdc.observe.observer import About, FailedCount, Health, ReplicationObserver
from cdc.observe.page import Page
from cdc.observe.status import LeftOutTable, Status, TableStatus, read_status, write_status

__all__ = [
    "About",
    "FailedCount",
    "Health",
    "LeftOutTable",
    "Metrics",
    "Page",
    "ReplicationObserver",
    "Status",
    "TableStatus",
    "logging_to",
    "read_status",
    "write_status",
]
