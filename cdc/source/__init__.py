"""The DuckDB side: reads the committed rows of a file that another process is writing, without its lock."""

from __future__ import annotations

from cdc.source.database import DuckDbSource, open_source
from cdc.source.events import SourceEvents
from cdc.source.file.snapshot import Snapshot
from cdc.source.format.headers import CorruptHeader, NotDuckDb, TruncatedFile, UnknownVersion
from cdc.source.self_test import SelfTest, run_self_test
from cdc.source.served import ServedSnapshot, ServedSource
from cdc.source.table.completion import CompletionRule, check_completion

AnySource = DuckDbSource | ServedSource
"""A file, or what its writer serves: both have tables, rows and readers alike."""

AnySnapshot = Snapshot | ServedSnapshot
"""What a query is put to."""

__all__ = [
    "AnySnapshot",
    "AnySource",
    "CompletionRule",
    "CorruptHeader",
    "DuckDbSource",
    "NotDuckDb",
    "SelfTest",
    "ServedSource",
    "Snapshot",
    "SourceEvents",
    "TruncatedFile",
    "UnknownVersion",
    "check_completion",
    "open_source",
    "run_self_test",
]
