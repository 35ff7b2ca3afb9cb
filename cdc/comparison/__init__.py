"""Where do source and target of a table differ, and how are they made equal again?

It knows both sides by what they can be asked, never how rows got there; it prints nothing.
"""

from cdc.comparison.audit import AuditFindings, Auditor, AuditReport
from cdc.comparison.compare import Comparer, Differences, Digest, Overview, Span, again, merged, spans
from cdc.comparison.cutting import boundaries_of
from cdc.comparison.digest import Hashes, RowHasher
from cdc.comparison.reconciler import Reconciler, ReconciliationReport
from cdc.comparison.reconciliation import Reconciled, Reconciliation, Sides
from cdc.comparison.repair import Clocked, Outranking, Repaired, repair
from cdc.comparison.values import formatter, texts
from cdc.comparison.verification import Example, Kind, Patience, RangeResult, TableResult, Verifier

__all__ = [
    "AuditFindings",
    "AuditReport",
    "Auditor",
    "Clocked",
    "Comparer",
    "Differences",
    "Digest",
    "Example",
    "Hashes",
    "Kind",
    "Outranking",
    "Overview",
    "Patience",
    "RangeResult",
    "Reconciled",
    "Reconciler",
    "Reconciliation",
    "ReconciliationReport",
    "Repaired",
    "RowHasher",
    "Sides",
    "Span",
    "TableResult",
    "Verifier",
    "again",
    "boundaries_of",
    "formatter",
    "merged",
    "repair",
    "spans",
    "texts",
]
