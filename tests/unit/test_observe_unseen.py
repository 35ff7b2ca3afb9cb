"""What a person sees of changes that may have gone unseen, from the break until both sides are equal. [R3]"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import structlog
from typer.testing import CliRunner

from cdc.change import TableId, Unseen
from cdc.cli import build_app
from cdc.comparison import Reconciled, ReconciliationReport, Repaired
from cdc.config import load
from cdc.errors import CdcError, TargetError
from cdc.observe.metrics import Metrics
from cdc.observe.observer import ReplicationObserver
from cdc.observe.record import About
from cdc.observe.status import StandingAlert, write_status
from cdc.state import Break
from tests.support.clock import FakeClock

TRADES = TableId("main", "trades")
FOUND = Break(TRADES, "checkpoints came", since=1_760_000_000.0 - 90, times=1)


@pytest.fixture
def observer(tmp_path: Path) -> ReplicationObserver:
    about = About(config="c.toml", source="t.duckdb", targets=("http://localhost:8123",))
    return ReplicationObserver(Metrics(), tmp_path / "status.json", about, clock=FakeClock())


def alert(observer: ReplicationObserver) -> StandingAlert | None:
    return next((each for each in observer.status().alerts if each.name == "tail_broken"), None)


def report(
    outcome: str, *, left: int = 0, error: CdcError | None = None, failures: int = 2
) -> ReconciliationReport:
    result = Reconciled(Repaired(sent=3, deleted=4), left)
    return ReconciliationReport(TRADES, outcome, result, 12.0, 300.0, error, failures)  # type: ignore[arg-type]


def test_what_is_compared_by_itself_is_no_alert_and_the_status_says_so(
    observer: ReplicationObserver,
) -> None:
    heard: list[tuple[TableId, Unseen]] = []
    observer.unseen.heard = lambda table, unseen: heard.append((table, unseen))
    observer.unseen_noted(TRADES, Unseen("the log was cut"))
    assert heard == [(TRADES, Unseen("the log was cut"))]
    observer.unseen.break_stands(FOUND, by_itself=True)
    [table] = observer.status().tables
    assert (alert(observer), table.reconciling) == (None, "waiting")
    assert table.broken_since is not None


def test_a_comparison_that_fails_once_is_no_alert_yet(observer: ReplicationObserver) -> None:
    error = TargetError("query", "it", "no such column", "Make it")
    observer.unseen.reconciled(report("failed", error=error, failures=1))
    observer.unseen.reconciled(report("different", left=5, failures=1))
    assert alert(observer) is None
    observer.unseen.reconciled(report("failed", error=error, failures=2))
    standing = alert(observer)
    assert standing is not None
    assert "no such column" in standing.message


def test_where_nobody_else_does_a_person_is_told_to_compare(observer: ReplicationObserver) -> None:
    observer.unseen.break_stands(FOUND, by_itself=False)
    standing = alert(observer)
    assert standing is not None
    assert standing.message == "changes of older rows may have gone unseen: checkpoints came"
    assert "Run 'cdc verify main.trades --repair', or set [sync] reconcile = true" in standing.remedy


@pytest.mark.parametrize(
    ("event", "message", "remedy"),
    [
        (
            report(
                "refused", error=TargetError("query", "it", "not enough privileges", "Grant it", code=497)
            ),
            "may not compare: not enough privileges",
            "GRANT SELECT",
        ),
        (report("failed", error=TargetError("query", "it", "gone", "Start it")), "failed: gone", "Start it"),
        (report("different", left=5), "5 rows differ although", "See which with 'cdc verify main.trades'"),
    ],
)
def test_what_could_not_be_mended_is_told_with_the_remedy_and_the_next_time(
    observer: ReplicationObserver, event: ReconciliationReport, message: str, remedy: str
) -> None:
    observer.unseen.break_stands(FOUND, by_itself=True)
    observer.unseen.reconciled(event)
    standing = alert(observer)
    assert standing is not None
    assert message in standing.message
    assert remedy in standing.remedy
    assert "It is tried again in 300 s" in standing.remedy


def test_equal_again_the_alert_resolves_and_log_metrics_and_status_say_what_was_done(
    observer: ReplicationObserver,
) -> None:
    observer.unseen.break_stands(FOUND, by_itself=True)
    with structlog.testing.capture_logs() as log:
        observer.unseen.reconciling(TRADES, "comparing")
        observer.unseen.reconciling(TRADES, "repairing")
        observer.unseen.reconciled(report("repaired"))
        observer.unseen.break_mended(TRADES)
    assert alert(observer) is None
    (table,) = observer.status().tables
    assert (table.broken_since, table.reconciling, table.reconciled_rows) == (None, None, 7)
    assert table.reconciled_at is not None
    done = next(entry for entry in log if entry["event"] == "reconciled")
    assert (done["delivered"], done["deleted"], done["seconds"]) == (3, 4, 12.0)
    text = observer.render_metrics().decode()
    for line in (
        'cdc_reconciliations_total{outcome="repaired",table="main.trades"} 1.0',
        'cdc_reconciled_rows_total{kind="delivered",table="main.trades"} 3.0',
        'cdc_reconciled_rows_total{kind="deleted",table="main.trades"} 4.0',
        'cdc_reconciliation_seconds_total{table="main.trades"} 12.0',
    ):
        assert line in text


def test_a_log_that_breaks_often_is_told_of_once(observer: ReplicationObserver) -> None:
    with structlog.testing.capture_logs() as log:
        for _ in range(3):
            observer.unseen_noted(TRADES, Unseen("the log is encrypted"))
    levels = [entry["log_level"] for entry in log if entry["event"] == "to be compared with the target"]
    assert levels == ["info", "debug", "debug"]
    assert 'cdc_tail_broken_total{table="main.trades"} 3.0' in observer.render_metrics().decode()


def test_a_doubt_is_no_alert_unless_the_user_may_not_compare(observer: ReplicationObserver) -> None:
    """[S4]"""
    observer.unseen_noted(TRADES, Unseen("it cannot be excluded", urgent=False))
    assert alert(observer) is None
    assert [each.broken_since for each in observer.status().tables if each.broken_since] == []
    error = TargetError("query", "it", "not enough privileges", "Grant it", code=497)
    observer.unseen.reconciled(replace(report("refused", error=error), doubted=True))
    assert alert(observer) is not None
    observer.unseen.break_mended(TRADES)
    assert alert(observer) is None


def test_what_the_reconciler_does_is_no_sign_of_life_of_the_table(tmp_path: Path) -> None:
    clock = FakeClock()
    about = About(config="c.toml", source="t.duckdb", targets=())
    made = ReplicationObserver(Metrics(), tmp_path / "status.json", about, clock=clock, stalled_seconds=100.0)
    made.cycle(TRADES, 0)
    clock.advance(101.0)
    made.unseen.reconciling(TRADES, "comparing")
    made.standing(TRADES)
    assert not made.live().ok


def test_cdc_status_says_since_when_and_what_is_done(tmp_path: Path, observer: ReplicationObserver) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        f'[database]\npath = "{(tmp_path / "t.duckdb").as_posix()}"\n'
        '[sync]\nclickhouse_endpoint = "http://localhost"\n'
    )
    (tmp_path / "t.duckdb.cdc").mkdir()
    observer.unseen.break_stands(FOUND, by_itself=True)
    observer.unseen.reconciling(TRADES, "comparing")
    process = psutil.Process(os.getpid()).create_time()
    status = observer.status().model_copy(update={"process_start": process})
    write_status(load(path, {}).status_path, status)
    found = CliRunner().invoke(build_app(), ["-c", str(path), "status"], env={"DUCKDB_PATH": ""})
    words = " ".join(found.output.split())
    assert "main.trades: changes may have gone unseen for 90 s: being compared with the target" in words
