"""The one verdict of `cdc status` and /readyz: what makes a replicator unwell, each cause said. [issue 12]"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cdc.change import Column, TableId, TablePlan, Unseen
from cdc.config import AlertsConfig
from cdc.errors import Meaning, SourceError, StateError, TargetError
from cdc.observe.health import ready
from cdc.observe.metrics import Metrics
from cdc.observe.observer import ReplicationObserver
from cdc.observe.record import About
from cdc.observe.status import LeftOutTable, StandingAlert, Status, TableStatus, read_status
from cdc.replicator.plan import LeftOut
from cdc.replicator.ports import Spooling
from tests.support.waiting import wait_until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TRADES = TableId("main", "trades")


def status(*tables: TableStatus, **values: object) -> Status:
    known: dict[str, object] = {
        "state": "running",
        "version": "1",
        "pid": 1,
        "process_start": 1.0,
        "started_at": NOW,
        "updated_at": NOW,
        "config": "c",
        "source": "s",
        "targets": (),
        "tables": tables,
    }
    return Status.model_validate(known | values)


def table(**values: object) -> TableStatus:
    known = {"table": "main.trades", "target": "trades", "state": "running", "since": NOW}
    return TableStatus.model_validate(known | values)


def alert(name: str, *, unwell: bool) -> StandingAlert:
    return StandingAlert(
        name=name,
        subject="main.trades",
        severity="critical",
        message="seen",
        remedy="Mend",
        raised_at=1,
        unwell=unwell,
    )


def test_a_table_that_runs_and_waits_for_nothing_is_well() -> None:
    assert ready(status(table(waiting_seconds=4.9, spool_rows=5, spool_since=NOW))).ok


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (status(), "no table of the source is replicated"),
        (status(table(), state="starting"), "the replicator is starting"),
        (status(table(), state="stopped"), "the replicator is stopped"),
        (status(table(state="snapshot")), "main.trades: snapshot"),
        (status(table(error="cannot x: y. Do z")), "main.trades: running: cannot x: y. Do z"),
        (status(table(waiting_seconds=5.1)), "delivery stands still"),
        (
            status(table(spool_rows=7, spool_since=NOW - timedelta(seconds=31))),
            "7 rows wait in the spool, the oldest for 31 s",
        ),
        (status(table(failed_rows=1)), "run 'cdc failed list main.trades'"),
        (status(table(broken_since=NOW, reconciling="comparing")), "it is being compared"),
        (status(table(broken_since=NOW)), "still to be compared"),
        (
            status(table(), left_out=[LeftOutTable(table="main.x", reason="no key. Name it", listed=True)]),
            "main.x: left out: no key. Name it",
        ),
        (status(table(), alerts=[alert("tail_broken", unwell=True)]), "tail_broken: seen. Mend"),
    ],
)
def test_what_is_not_well_is_one_line_that_says_it(found: Status, said: str) -> None:
    (problem,) = ready(found).problems
    assert said in problem


def test_an_alert_of_something_else_and_a_table_not_asked_for_leave_it_well() -> None:
    left_out = [LeftOutTable(table="main.log", reason="no key")]
    assert ready(status(table(), left_out=left_out, alerts=[alert("sync_latency", unwell=False)])).ok


Trouble = Callable[[ReplicationObserver], None]


def _set_aside(observer: ReplicationObserver) -> None:
    observer.spooled(TRADES, Spooling(5, 100, 1.0, 0.1))


@pytest.mark.parametrize(
    "trouble",
    [
        lambda observer: observer.state(TRADES, "paused", StateError("a", "b", "c", "d")),
        lambda observer: observer.retried(TRADES, TargetError("a", "b", "c", "d"), 1, 0.5),
        lambda observer: observer.unseen_noted(TRADES, Unseen("the log was cut")),
        lambda observer: observer.source_away(SourceError("a", "b", "c", "d", meaning=Meaning.RETRY)),
        lambda observer: observer.begin(
            [], [LeftOut(TableId("main", "x"), "no key", listed=True)], {}, breaker=lambda: "closed"
        ),
        lambda observer: observer.begin([], [], {}, waiting=lambda: {TRADES: 6.0}),
        _set_aside,
    ],
)
def test_the_status_file_soon_tells_what_the_page_tells(trouble: Trouble, tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    observer = ReplicationObserver(Metrics(), path, About("c", "s", ()), alerts=AlertsConfig(free_disk_mb=0))
    column = Column("seq", "BIGINT")

    def told() -> bool:
        found = read_status(path)
        return found is not None and ready(found).ok == observer.ready().ok

    with observer:
        observer.begin([TablePlan(TRADES, "trades", (column,), ("seq",), column)], [], {})
        observer.state(TRADES, "running")
        observer.cycle(TRADES, 0)
        assert observer.ready().ok
        wait_until(told, "the file to say that all is well")
        trouble(observer)
        assert not observer.ready().ok
        wait_until(told, "the file to say that something is not", 4.0)
