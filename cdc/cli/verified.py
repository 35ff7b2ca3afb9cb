"""How does what `cdc verify` found look: to a person, and to a program?"""

from __future__ import annotations

from typing import Any

from cdc.cli.console import console, table
from cdc.comparison import TableResult


def show_result(result: TableResult) -> None:
    out = console()
    state = "equal" if result.equal else "DIFFERENT"
    words = [f"{result.source_rows:,} rows in the source, {result.target_rows:,} in the target"]
    for count, what in (
        (result.missing, "missing in the target"),
        (result.different, "different"),
        (len(result.left), "no longer within the filter"),
        (_gone(result), "only in the target" if result.deletes else "pruned in the source"),
    ):
        if count:
            words.append(f"{count:,} {what}")
    if result.failed:
        words.append(f"{result.failed:,} of them failed to load, see 'cdc failed list'")
    out.print(f"{result.plan.table}: {state}; {'; '.join(words)}", markup=False)
    shown = [each for each in result.ranges if each.missing or each.different or result.deletes]
    if shown:
        gone = "extra" if result.deletes else "pruned"
        headings = (result.plan.watermark.name, "source", "target", "missing", "different", gone)
        rows = [
            (
                str(each.overview.span),
                f"{each.overview.source.rows:,}",
                f"{each.overview.target.rows:,}",
                f"{each.missing:,}",
                f"{each.different:,}",
                f"{each.extra:,}",
            )
            for each in shown
        ]
        out.print(table(headings, rows, right=headings[1:]))
    if result.examples:
        named = [
            (
                each.kind,
                ", ".join("NULL" if value is None else value for value in each.key),
                ", ".join(each.columns),
                ""
                if each.failed is None
                else f"{each.failed.id}: {' '.join(each.failed.row.reason.split())[:60]}",
            )
            for each in result.examples
        ]
        out.print(table(("", ", ".join(result.plan.key), "columns that differ", "failed row"), named))
        unnamed = result.missing + result.different + (result.extra if result.deletes else len(result.left))
        if unnamed > len(result.examples):
            out.print(f"  {unnamed - len(result.examples):,} more; see --limit", markup=False)


def _gone(result: TableResult) -> int:
    """Rows that only the target has, and the source has nowhere."""
    return result.extra - len(result.left)


def document_of(result: TableResult) -> dict[str, Any]:
    return {
        "table": str(result.plan.table),
        "target": result.plan.target,
        "equal": result.equal,
        "source_rows": result.source_rows,
        "target_rows": result.target_rows,
        "ranges": len(result.overviews),
        "missing": result.missing,
        "different": result.different,
        "extra": result.extra if result.deletes else len(result.left),
        "pruned": 0 if result.deletes else _gone(result),
        "failed": result.failed,
        "differing_ranges": [
            {
                "low": each.overview.span.low,
                "high": each.overview.span.high,
                "source": {
                    "rows": each.overview.source.rows,
                    "checksum": f"{each.overview.source.checksum:016x}",
                },
                "target": {
                    "rows": each.overview.target.rows,
                    "checksum": f"{each.overview.target.checksum:016x}",
                },
                "missing": each.missing,
                "different": each.different,
                "extra": each.extra,
            }
            for each in result.ranges
        ],
        "examples": [
            {
                "kind": each.kind,
                "key": dict(zip(result.plan.key, each.key, strict=True)),
                "columns": list(each.columns),
                "failed_row": None if each.failed is None else each.failed.id,
                "reason": None if each.failed is None else each.failed.row.reason,
            }
            for each in result.examples
        ],
    }
