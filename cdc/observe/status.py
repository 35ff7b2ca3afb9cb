"""What the status file says: a running replicator, as one JSON object that is replaced whole.

```
format        1: grows when a key changes its meaning; keys may be added without
state         starting | running | stopped (the last word of an orderly end)
version       of this program
pid           of the replicator, with
process_start the process's own start, in seconds since 1970: together they name one process for ever
started_at    when it began            (all times: UTC, ISO 8601)
updated_at    when this file was written; at least every 5 seconds while it runs
config        the configuration file
source        path of the DuckDB file, and
identity      the identity of the database in it, null until it was opened
lease_number  of the lease in Redis: the holder with the greatest is the one; null without
targets       the endpoints, without credentials
page          URL of the metrics page, or null
breaker       closed | open | half-open
duckdb        version of the DuckDB that reads
self_test     passed, or what does not hold with this DuckDB, so that tables are read in snapshots only; null
              before it ran, and on Windows
decoder_mismatch   what our own decoder of the log read otherwise than DuckDB, which decodes it alone since
untested      sentences on the versions of DuckDB, reading or writing, that were not tested
tables        one object per replicated table:
  table           as schema.name
  target          the table in ClickHouse
  state           setup | snapshot | running | paused | resync | failed
  since           when it entered that state
  watermark       the last value delivered, as DuckDB writes it, or null
  position        the place in the source's history that was read, checkpoint:offset, or null
  rows, bytes, batches   acknowledged since this process started
  failed_rows     rows set aside because they cannot be loaded, now
  held_rows, held_groups   rows that wait for their group to be complete, and the groups, now
  held_since      when the first row of the oldest such group came, or null
  spool_rows, spool_bytes   rows read while the target was away and not delivered yet, and what they take, now
  spool_since     when the oldest of them was noticed, or null
  waiting_seconds for how long the target has not taken what it was sent, or null: it was sent nothing
  retries         attempts that failed, since this process started
  lag_seconds     of the last batch: from noticing the change to the acknowledgement; null before the first
  rows_behind     rows past the watermark; null when unknown
  seconds_behind  0 when caught up, else the lag of the last batch; null when unknown
  last_cycle_at   when it was last found caught up, or null
  broken_since    since when changes may have gone unseen, or null
  reconciling     waiting | comparing | repairing: what is done about that; null: nothing, or not by itself
  reconciled_at   when this process last found or made source and target equal for that reason, or null
  reconciled_rows rows sent for it then, or null
  audited_at      when an audit by this process last came to its end, or null
  audit           its result, or why there is none; null before the first
  error           the last error of the present state, in one sentence with its remedy, or null
alerts        those that stand: name, subject, severity, message, remedy, raised_at, times, and
  unwell          whether the replicator is not well while it stands
left_out      tables of the source that are not replicated: table, reason, and
  listed          whether the configuration asks for it
standstill_seconds   what waits for longer than this for the target makes the replicator unwell
```
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cdc.errors import StateError
from cdc.private import open_private, read_replaced, replace

FORMAT: Literal[1] = 1
PASSED = "passed"
"""Of the self-test."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TableStatus(_Part):
    """One replicated table."""

    table: str
    target: str
    state: str
    since: datetime
    watermark: str | None = None
    position: str | None = None
    rows: int = 0
    bytes: int = 0
    batches: int = 0
    failed_rows: int = 0
    held_rows: int = 0
    held_groups: int = 0
    held_since: datetime | None = None
    spool_rows: int = 0
    spool_bytes: int = 0
    spool_since: datetime | None = None
    waiting_seconds: float | None = None
    retries: int = 0
    lag_seconds: float | None = None
    rows_behind: int | None = None
    seconds_behind: float | None = None
    last_cycle_at: datetime | None = None
    broken_since: datetime | None = None
    reconciling: str | None = None
    reconciled_at: datetime | None = None
    reconciled_rows: int | None = None
    audited_at: datetime | None = None
    audit: str | None = None
    error: str | None = None


class LeftOutTable(_Part):
    """A table of the source that is not replicated."""

    table: str
    reason: str
    listed: bool = False
    """The configuration asks for it."""


class StandingAlert(_Part):
    """An alert that stands."""

    name: str
    subject: str
    severity: str
    message: str
    remedy: str
    raised_at: float
    times: int = 1
    unwell: bool = False


class Status(_Part):
    """The status file; see the module for what each key means."""

    format: Literal[1] = FORMAT
    state: Literal["starting", "running", "stopped"]
    version: str
    pid: int
    process_start: float
    started_at: datetime
    updated_at: datetime
    config: str
    source: str
    identity: str | None = None
    lease_number: int | None = None
    targets: tuple[str, ...]
    page: str | None = None
    breaker: str = "closed"
    duckdb: str = ""
    self_test: str | None = None
    decoder_mismatch: str | None = None
    untested: tuple[str, ...] = ()
    tables: tuple[TableStatus, ...] = ()
    left_out: tuple[LeftOutTable, ...] = ()
    alerts: tuple[StandingAlert, ...] = ()
    standstill_seconds: float = 5.0


def write_status(path: Path, status: Status) -> None:
    """Replace the file at `path`; a reader sees the old or the new one whole, also after a power cut.

    Raises:
        OSError: it was not replaced.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        flags = os.O_WRONLY | os.O_EXCL
        with open(open_private(temporary, flags), "wb") as file:
            file.write(status.model_dump_json(indent=2).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_status(path: Path) -> Status | None:
    """The status at `path`; None when there is no file.

    Raises:
        StateError: the file cannot be read, or is not a status of this format.
    """
    try:
        content = read_replaced(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error.strerror or type(error).__name__) from None
    try:
        return Status.model_validate_json(content)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise _unreadable(path, f"{where or 'it'}: {detail['msg']}") from None


def _unreadable(path: Path, problem: str) -> StateError:
    return StateError("read the status file", path, problem, "Start the replicator: it writes a new one")
