"""A whole installation to break: a live writer, `cdc run`, a real ClickHouse, and what is asked of them then.

Each fault ends with `Rig.settle`: the writer is frozen, and source and target must become equal. What was
seen goes into a table, a line of JSON each, in the file that CDC_FAULT_TABLE names.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from cdc.app.wiring import plans_of
from cdc.change import TablePlan
from cdc.comparison import Comparer, RowHasher, Span, again
from cdc.config import Settings, load
from cdc.config.endpoint import parse_endpoint
from cdc.errors import CdcError
from cdc.source import open_source
from cdc.target import TargetOptions, open_target
from tests.support.reference_writer import REFERENCE_WRITER, WriterProcess, running_writer
from tests.support.replica import Replica
from tests.support.waiting import wait_until

TABLES = """
[[tables]]
name = "trades"
watermark = "updated_at"
version = "updated_at"
[[tables]]
name = "brokers"
watermark = "updated_at"
version = "updated_at"
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the table. Rows are of all tables."""

    fault: str
    lost: int
    """Rows whose newest state is not in the target, once it had time to get there."""
    duplicated: int
    """Rows there twice under FINAL."""
    duplicates_before_final: int
    """The same state of a row there more than once, and not yet merged."""
    recovery_seconds: float
    """From the end of the fault until all was there that was committed by then."""
    message: str
    """What a person saw."""


def record(outcome: Outcome) -> None:
    if path := os.environ.get("CDC_FAULT_TABLE"):
        with open(path, "a", encoding="utf-8") as table:
            table.write(json.dumps(asdict(outcome)) + "\n")


class Rig:
    """One source with its writer, one target, and what is between them. A context manager."""

    def __init__(
        self,
        directory: Path,
        url: str,
        query: Callable[[str], str],
        *,
        through: str | None = None,
        rate: int = 100,
        backoff: str = "[1, 30]",
        more: str = "",
        tables: str = TABLES,
        deletes: str = "ignore",
        writer: Sequence[str] = REFERENCE_WRITER,
    ) -> None:
        """
        Args:
            url: of the target, for the comparison; `through`: for the replicator.
            query: asks the target round our code.
            more: lines of the configuration.
            writer: its command.
        """
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.source = directory / "trades.duckdb"
        self.database = f"faults_{os.getpid()}_{time.monotonic_ns()}"
        self._url = url
        self._query = query
        self._rate = rate
        self._stack = ExitStack()
        self._command = writer
        self._writer: WriterProcess | None = None
        self._replica: Replica | None = None
        self.config = directory / "cdc.toml"
        self._backoff = backoff
        self._deletes = deletes
        self._calm_since = 0.0
        self.write_config(through or url, more, tables)

    def __enter__(self) -> Self:
        self._query(f"CREATE DATABASE {self.database}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._replica is not None:
            self._replica.kill()
        self._stack.close()
        with suppress(Exception):  # the server may be what the test broke
            self._query(f"DROP DATABASE {self.database}")

    def write_config(self, endpoint: str, more: str = "", tables: str = TABLES) -> None:
        """Of normal priority: on a busy machine a low one waits for all else, and this measures recovery."""
        self.config.write_text(
            f"""
[database]
path = "{self.source}"
[performance]
priority = "normal"
[logging]
log_format = "json"
[sync]
clickhouse_endpoint = "{endpoint}"
deletes = "{self._deletes}"
[error_handling]
retry_first_ms = 100
retry_first_attempts = 2
retry_backoff_sec = {self._backoff}
breaker_open_sec = 1
halted_sec = 0.5
[target]
database = "{self.database}"
auto_create = true
connect_timeout_sec = 2
send_timeout_sec = 2
receive_timeout_sec = 2
[metrics]
port = 0
[alerts]
rows_per_second = 0
{more}
{tables}
"""
        )

    # Its parts

    def write(self, *options: object) -> WriterProcess:
        """Start the writer; `writer` is it from now on."""
        log = self.directory / "commits.log"
        given = ("--rate", self._rate, "--rows-per-commit", 10, "--commit-log", log, *options)
        self._writer = self._stack.enter_context(running_writer(self.source, *given, command=self._command))
        self._writer.wait_for_rows(40)
        return self._writer

    @property
    def writer(self) -> WriterProcess:
        assert self._writer is not None
        return self._writer

    def replicate(self, *arguments: str, **options: Any) -> Replica:
        """Start a replicator, with the options of `Replica`; `replica` is it from now on."""
        made = Replica(self.config, *arguments, **options)
        self._replica = self._stack.enter_context(made)
        return made

    def another(self, *arguments: str) -> Replica:
        """One more replicator beside `replica`, which stays the one that is asked."""
        return self._stack.enter_context(Replica(self.config, *arguments))

    def runs(self) -> bool:
        """Whether there is a replicator that has not ended."""
        return self._replica is not None and self._replica.process.poll() is None

    def stop(self) -> None:
        """End the replicator in order, if there is one."""
        if self.runs():
            self.replica.stop()

    @property
    def replica(self) -> Replica:
        assert self._replica is not None
        return self._replica

    @contextmanager
    def writer_frozen(self) -> Iterator[None]:
        """Nothing is committed meanwhile; the writer keeps its lock."""
        if self._writer is None or self._writer.process.poll() is not None:
            yield
            return
        process = psutil.Process(self._writer.process.pid)
        process.suspend()
        try:
            yield
        finally:
            process.resume()

    # What is asked of them

    def query(self, sql: str) -> str:
        return self._query(sql.replace("DB", self.database))

    def committed(self) -> int:
        """The newest trade that the writer has committed."""
        *_, last = (self.directory / "commits.log").read_text().splitlines()
        return int(last.split()[0])

    def arrived(self) -> int:
        """The newest trade that is in the target; 0 while that cannot be told."""
        try:
            return int(self.query("SELECT max(seq) FROM DB.trades") or 0)
        except (AssertionError, RuntimeError, OSError):
            return 0

    def recover(self, seconds: float = 100.0) -> float:
        """Wait until all is in the target that is committed now; the seconds it took."""
        began, wanted = time.monotonic(), self.committed()
        try:
            wait_until(lambda: self.arrived() >= wanted, f"trade {wanted} to arrive", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told()}") from error
        return time.monotonic() - began

    def status(self) -> dict[str, Any]:
        """The status file; empty where there is none."""
        try:
            found: dict[str, Any] = json.loads(
                (self.directory / "trades.duckdb.cdc/status.json").read_bytes()
            )
        except FileNotFoundError:
            return {}
        return found

    def trouble_tables(self) -> list[dict[str, Any]]:
        """What the status says of each table, trades first."""
        tables: list[dict[str, Any]] = list(self.status().get("tables", ()))
        return sorted(tables, key=lambda each: str(each["table"]), reverse=True)

    def trouble(self) -> list[str]:
        """What the status tells of trouble with tables just now."""
        return [each["error"] for each in self.trouble_tables() if each["error"]]

    def calm(self) -> None:
        """Wait until everything is delivered and no trouble is told any more; what is told later is new."""
        self.recover()
        wait_until(lambda: self.status() and not self.trouble(), "the last fault's trouble to be over")
        self._calm_since = time.time()

    def failed_rows(self) -> int:
        return sum(int(each["failed_rows"]) for each in self.trouble_tables())

    def said(self, seconds: float = 60.0) -> str:
        """What a person is told, as soon as there is anything: of a table, an alert, or as a last word."""
        found: list[str] = []

        def told() -> bool:
            alerts = self.status().get("alerts", ())
            ended = self.replica.process.poll() is not None
            found[:] = self.replica.messages()[-1:] if ended else self.trouble()
            found.extend(
                each["message"]
                for each in alerts
                if each["raised_at"] > self._calm_since and each["name"] != "success_rate"
            )
            return bool(found)

        wait_until(told, "the status to tell of trouble", seconds)
        return found[0]

    def differences(self) -> int:
        """Rows of all tables that the target has not, has otherwise, or has and the source has not."""
        with self.comparers() as comparers:
            return sum(len(each.differences(Span())) for each in comparers)

    @contextmanager
    def comparers(self) -> Iterator[list[Comparer]]:
        """Of each table."""
        settings = self.settings()
        with (
            RowHasher() as hasher,
            open_source(self.source, tailing=False) as source,
            open_target([parse_endpoint(self._url)], TargetOptions(database=self.database)) as target,
        ):
            plans = again(lambda: plans_of(settings, source).plans)
            yield [Comparer(plan, source, target, hasher) for plan in plans]

    @property
    def tables(self) -> list[str]:
        """Those of the configuration."""
        return [str(each.name) for each in self.settings().tables]

    def settings(self) -> Settings:
        return load(self.config, {})

    def plan(self, table: str = "trades") -> TablePlan:
        with open_source(self.source, tailing=False) as source:
            return next(each for each in plans_of(self.settings(), source).plans if each.table.name == table)

    def settle(
        self,
        fault: str,
        recovery_seconds: float,
        message: str,
        *,
        tables: Sequence[str] = ("trades", "brokers"),
        seconds: float = 30.0,
    ) -> Outcome:
        """Wait until source and target are equal, so long at most, and record what was seen.

        Raises:
            AssertionError: they do not become equal.
        """
        left = [-1]

        def equal() -> bool:
            try:
                left[0] = self.differences()
            except CdcError as error:
                left[0] = -1
                self._last_error = str(error)
            return left[0] == 0

        with self.writer_frozen():
            with suppress(AssertionError):
                wait_until(equal, "source and target to be equal", seconds)
            keys = {"trades": "trade_id", "brokers": "broker_id"}
            twice = before = 0
            for table in tables:
                key = keys.get(table, "id")
                count = f"SELECT count() - uniqExact({key}) FROM DB.{table} FINAL"
                twice += int(self.query(count))
                before += int(self.query(f"SELECT count() - uniqExact({key}, _cdc_version) FROM DB.{table}"))
                self.query(f"OPTIMIZE TABLE DB.{table} FINAL")  # so that the next fault's are counted alone
        outcome = Outcome(fault, left[0], twice, before, round(recovery_seconds, 2), message)
        record(outcome)
        assert (outcome.lost, outcome.duplicated) == (0, 0), f"{outcome}\n{self.told()}"
        return outcome

    def told(self) -> str:
        """What there is to say of a failure: the replicator's state, its last words, its status."""
        code = self.replica.process.poll()
        state = "runs" if code is None else f"ended with {code}"
        words = [*self.replica.messages()[-10:], *self.trouble(), getattr(self, "_last_error", "")]
        load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
        first = f"replicator {state}, {self.arrived()} of {self.committed()} arrived, machine's load {load}"
        tables = [f"{each['table']}: {each['state']} since {each['since']}" for each in self.trouble_tables()]
        return "\n".join([first, *tables, *words])
