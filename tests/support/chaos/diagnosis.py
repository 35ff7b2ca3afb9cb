"""What there is to say of an installation that does not recover: so much that its cause can be found."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np

from tests.support.faults import Rig

LOG_LINES = 60
ROWS = 10
"""Rows that are shown of those that differ."""


def diagnosis(rig: Rig, fault: str) -> str:
    """A report in lines; no part of it raises, whatever is broken."""
    parts: tuple[tuple[str, Callable[[], Iterator[str]]], ...] = (
        ("processes", lambda: _processes(rig)),
        ("status file", lambda: _status(rig)),
        ("target", lambda: _target(rig)),
        (f"last {LOG_LINES} lines of its log", lambda: iter(rig.replica.log.splitlines()[-LOG_LINES:])),
        ("stacks of the replicator", lambda: _stacks(rig)),
        ("rows that differ, the writer being frozen", lambda: _rows(rig)),
    )
    lines = [f"after the fault {fault!r}, at {datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z"]
    for title, part in parts:
        lines.append(f"-- {title}")
        try:
            lines.extend(part())
        except Exception as error:  # noqa: BLE001 - the other parts are wanted all the more
            lines.append(f"not to be had: {type(error).__name__}: {error}")
    return "\n".join(lines)


def _processes(rig: Rig) -> Iterator[str]:
    yield f"machine's load {', '.join(f'{each:.1f}' for each in os.getloadavg())} on {os.cpu_count()} cores"
    for name, process in (("replicator", rig.replica.process), ("writer", rig.writer.process)):
        code = process.poll()
        yield f"{name} {process.pid} {'runs' if code is None else f'ended with {code}'}"
        if code is not None and process.stderr is not None:
            yield str(process.stderr.read())
    yield f"newest trade committed {rig.committed()}, arrived {rig.arrived()}"


def _status(rig: Rig) -> Iterator[str]:
    status: dict[str, Any] = rig.status()
    written = time.time() - (rig.directory / "trades.duckdb.cdc/status.json").stat().st_mtime
    yield f"written {written:.1f} s ago, {status['state']}, pid {status['pid']}, breaker {status['breaker']}"
    for table in rig.trouble_tables():
        yield json.dumps(table)
    for kind in ("alerts", "left_out"):
        for each in status.get(kind, ()):
            yield f"{kind}: {json.dumps(each)}"


def _stacks(rig: Rig) -> Iterator[str]:
    """Of each thread where it is, and of the way there what is ours."""
    innermost = False
    for line in rig.replica.stacks().splitlines():
        if line.startswith(("Thread", "Current thread")) or innermost or "/cdc/" in line:
            yield line
        innermost = line.startswith(("Thread", "Current thread"))


def _target(rig: Rig) -> Iterator[str]:
    began = time.monotonic()
    for table in rig.tables:
        count = rig.query(f"SELECT count(), max(updated_at), sum(_cdc_deleted) FROM DB.{table} FINAL")
        yield f"{table} FINAL: rows, newest, deleted: {count}"
    yield f"it answers, in {time.monotonic() - began:.2f} s; at work on:"
    yield rig.query("SELECT elapsed, query FROM system.processes WHERE query NOT LIKE '%system.processes%'")


def _rows(rig: Rig) -> Iterator[str]:
    from cdc.comparison import Span  # here: the rest is told even where this cannot be

    with rig.writer_frozen(), rig.comparers() as comparers:
        for comparer in comparers:
            found = comparer.differences(Span())
            kinds = {kind: len(getattr(found, kind)) for kind in ("missing", "extra", "different")}
            yield f"{comparer.plan.table}: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}"
            keys = np.sort(found.keys[:ROWS])
            for side, read in (("source", comparer.source_rows), ("target", comparer.target_rows)):
                rows = (row for batch in read(Span(), keys) for row in batch.to_pylist())
                for row in islice(rows, ROWS):
                    yield f"  {side}: {_short(row)}"


def _short(row: dict[str, Any]) -> str:
    text = ", ".join(f"{name}={value}" for name, value in row.items())
    return text if len(text) < 400 else f"{text[:400]}…"
