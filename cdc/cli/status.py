"""`cdc status`: what is the replicator doing, or what had it done when it ended?

Exit code 0: it runs and all is well, as /readyz decides it too. 1: it does not run, or something is not well.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, NoReturn

import psutil
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from cdc.cli import context
from cdc.cli.console import console, table
from cdc.cli.saying import say
from cdc.config import Settings
from cdc.errors import ExitCode, StateError
from cdc.observe.health import ready
from cdc.observe.status import Status, TableStatus, read_status

STALE_SECONDS = 15.0
"""A running replicator writes its status every 5 seconds; one three times as old does not work."""

WATCH_SECONDS = 1.0

Process = Literal["running", "stopped", "dead", "suspended", "stale", "unknown"]


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What is known: of the process, and of each table from the status file or else from the store."""

    process: Process
    """stopped: in order; dead: it vanished; suspended: by a signal; stale: it lives but says nothing;
    unknown: there is no file."""
    age_seconds: float | None
    status: Status | None
    stored: tuple[dict[str, object], ...] = ()
    """The marks in the state store, where no replicator runs."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not well, one line each. Of a process that does not work the status tells what was."""
        if self.process != "running" or self.status is None:
            pid = 0 if self.status is None else self.status.pid
            return (_PROCESS[self.process].format(pid=pid),)
        return ready(self.status).problems

    @property
    def well(self) -> bool:
        return not self.problems

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(
            {
                "process": self.process,
                "well": self.well,
                "problems": self.problems,
                "age_seconds": self.age_seconds,
                "status": None if self.status is None else self.status.model_dump(mode="json"),
                "stored": self.stored,
            },
            indent=indent,
        )


def register(app: typer.Typer) -> None:
    app.command("status")(status)


def status(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every second.")] = False,
) -> None:
    """Show what the replicator is doing. Exit code 1 when it does not run or is not well, as /readyz says."""
    settings = context.settings(ctx)
    if watch:
        _watch(settings, as_json=as_json)
    report = look(settings)
    if as_json:
        say(report.to_json())
    else:
        console().print(_drawn(report))
    raise typer.Exit(ExitCode.OK.value if report.well else ExitCode.FAILED.value)


def look(settings: Settings) -> StatusReport:
    """What the status file, the process table and the store say now.

    Raises:
        StateError: the status file is not one.
    """
    found = read_status(settings.status_path)
    if found is None:
        return StatusReport("unknown", None, None, _stored(settings))
    age = (datetime.now(UTC) - found.updated_at).total_seconds()
    process: Process = "stopped" if found.state == "stopped" else _process(found)
    if process == "running" and abs(age) > STALE_SECONDS:  # below 0: the clock went back since
        process = "stale"
    return StatusReport(process, age, found, () if process == "running" else _stored(settings))


def _process(found: Status) -> Process:
    """What became of the process that wrote the file; another one may have its pid by now."""
    try:
        process = psutil.Process(found.pid)
        if abs(process.create_time() - found.process_start) >= 1.0:
            return "dead"
        state = process.status()
    except psutil.AccessDenied:
        return "running"
    except psutil.Error:
        return "dead"
    if state in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
        return "dead"
    return "suspended" if state in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP) else "running"


def _stored(settings: Settings) -> tuple[dict[str, object], ...]:
    from cdc.state import open_store

    try:
        with open_store(
            settings.state.directory, failed_table=settings.error_handling.failed_sync_table, mode="read"
        ) as store:
            return tuple(
                {
                    "table": str(record.table),
                    "source": record.source,
                    "watermark": None if record.mark is None else record.mark.watermark,
                    "rows": record.rows,
                    "failed_rows": record.failed_rows,
                    "spool_rows": record.spooled_rows,
                    "updated_at": datetime.fromtimestamp(record.updated_at, UTC).isoformat(),
                }
                for record in store.tables()
            )
    except StateError:  # it never ran here, or the store is damaged, which `cdc watermark` says at length
        return ()


def _watch(settings: Settings, *, as_json: bool) -> NoReturn:
    """Until Ctrl-C: redrawn on a terminal, else printed again; JSON as one line each time."""
    screen = console()
    if screen.is_terminal and not as_json:
        with Live(_drawn(look(settings)), console=screen, auto_refresh=False) as live:
            while True:
                time.sleep(WATCH_SECONDS)
                live.update(_drawn(look(settings)), refresh=True)
    while True:
        report = look(settings)
        if as_json:
            say(report.to_json(indent=None))
        else:
            screen.print(_drawn(report))
        time.sleep(WATCH_SECONDS)


_PROCESS = {
    "running": "running",
    "stopped": "not running (it ended in order)",
    "dead": "NOT RUNNING: it ended without a word; see its log, and start 'cdc run'",
    "suspended": "SUSPENDED: a signal stopped it; it goes on with 'kill -CONT {pid}'",
    "stale": "STALE: it lives, but has not reported; see its log",
    "unknown": "not running, and no status file: start 'cdc run'",
}


def _drawn(report: StatusReport) -> RenderableType:
    parts: list[RenderableType] = []
    status = report.status
    head = f"replicator  {_PROCESS[report.process].format(pid=0 if status is None else status.pid)}"
    if status is not None:
        if report.process == "running" and not report.well:
            head += ", NOT WELL"
        head += f" (pid {status.pid}, reported {_ago(report.age_seconds or 0.0)} ago)"
        parts.append(Text(head))
        parts.append(Text(f"source      {status.source}"))
        parts.append(Text(f"target      {', '.join(status.targets)}  breaker {status.breaker}"))
        parts += [Text(f"untested    {item}") for item in status.untested]
        if status.decoder_mismatch is not None:
            parts.append(Text(f"decoder     off: it read otherwise than DuckDB {status.decoder_mismatch}"))
        if status.lease_number is not None:
            parts.append(Text(f"lease       in Redis, number {status.lease_number}"))
        parts.append(_tables(status))
        if report.process == "running":
            parts += [Text(f"not well: {problem}") for problem in report.problems]
        else:
            parts += [Text(f"{item.table}: {item.error}") for item in status.tables if item.error]
        parts += [Text(_held(item, status.updated_at)) for item in status.tables if item.held_rows]
        parts += [Text(_spooled(item, status.updated_at)) for item in status.tables if item.spool_rows]
        parts += [Text(_broken(item, status.updated_at)) for item in status.tables if item.broken_since]
        parts += [
            Text(f"alert: {item.name} {item.subject}: {item.message}. {item.remedy}")
            for item in status.alerts
            if not (item.unwell and report.process == "running")  # told above
        ]
        parts += [
            Text(f"left out: {item.table}: {item.reason}")
            for item in status.left_out
            if not (item.listed and report.process == "running")
        ]
    else:
        parts.append(Text(head))
    if report.stored:
        headings = ("stored", "rows", "failed", "spool", "watermark", "at")
        rows = [
            (
                str(at["table"]),
                f"{at['rows']:,}",
                f"{at['failed_rows']:,}",
                f"{at['spool_rows']:,}",
                _or(at["watermark"]),
                str(at["updated_at"]),
            )
            for at in report.stored
        ]
        parts.append(table(headings, rows, right=("rows", "failed", "spool")))
    return Group(*parts)


def _tables(status: Status) -> RenderableType:
    headings = ("table", "state", "rows", "behind", "lag", "failed", "watermark", "caught up")
    rows = [_row(item, status.updated_at) for item in status.tables]
    return table(headings, rows, right=("rows", "behind", "lag", "failed"))


def _row(item: TableStatus, now: datetime) -> tuple[str, ...]:
    return (
        item.table if item.table.endswith(f".{item.target}") else f"{item.table} → {item.target}",
        item.state,
        f"{item.rows:,}",
        "?" if item.rows_behind is None else f"{item.rows_behind:,}",
        "-" if item.lag_seconds is None else _ago(item.lag_seconds),
        f"{item.failed_rows:,}",
        _or(item.watermark),
        "-" if item.last_cycle_at is None else f"{_ago((now - item.last_cycle_at).total_seconds())} ago",
    )


def _held(item: TableStatus, now: datetime) -> str:
    age = 0.0 if item.held_since is None else (now - item.held_since).total_seconds()
    return (
        f"{item.table}: {item.held_rows:,} rows of {item.held_groups:,} incomplete groups wait, "
        f"the oldest for {_ago(age)}"
    )


def _spooled(item: TableStatus, now: datetime) -> str:
    age = 0.0 if item.spool_since is None else (now - item.spool_since).total_seconds()
    return (
        f"{item.table}: {item.spool_rows:,} rows ({item.spool_bytes / 1e6:,.1f} MB) wait in the spool, "
        f"the oldest for {_ago(age)}"
    )


def _broken(item: TableStatus, now: datetime) -> str:
    age = 0.0 if item.broken_since is None else (now - item.broken_since).total_seconds()
    does = {
        "waiting": "to be compared",
        "comparing": "being compared with the target",
        "repairing": "what differs is being delivered again",
    }.get(item.reconciling or "", "see the alert")
    return f"{item.table}: changes may have gone unseen for {_ago(age)}: {does}"


def _or(value: object) -> str:
    return "-" if value is None else str(value)


def _ago(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
