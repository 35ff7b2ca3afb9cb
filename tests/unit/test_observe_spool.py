"""What a person sees of the spool: metrics, status, `cdc status`, log lines, the alert. [R4, R5]"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import structlog
from typer.testing import CliRunner

from cdc.change import TableId
from cdc.cli import build_app
from cdc.config import load
from cdc.observe.metrics import Metrics
from cdc.observe.observer import ReplicationObserver
from cdc.observe.record import About
from cdc.observe.status import write_status
from cdc.replicator.ports import Spooling
from tests.support.clock import FakeClock

TRADES = TableId("main", "trades")
SINCE = 1_700_000_000.0
NOTHING = Spooling(rows=0, bytes=0, since=None, share=0.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def observer(tmp_path: Path, clock: FakeClock) -> ReplicationObserver:
    about = About(config="c.toml", source="t.duckdb", targets=("http://localhost:8123",))
    return ReplicationObserver(Metrics(), tmp_path / "status.json", about, clock=clock)


def alerts(observer: ReplicationObserver) -> list[str]:
    return [each.name for each in observer.status().alerts]


def test_spooled_rows_are_in_metrics_and_status_until_they_are_delivered(
    observer: ReplicationObserver,
) -> None:
    observer.spooled(TRADES, Spooling(rows=500, bytes=2048, since=SINCE, share=0.1))
    text = observer.render_metrics().decode()
    for line in (
        'cdc_spool_rows{table="main.trades"} 500.0',
        'cdc_spool_bytes{table="main.trades"} 2048.0',
        'cdc_spool_oldest_timestamp_seconds{table="main.trades"} 1.7e+09',
    ):
        assert line in text
    (table,) = observer.status().tables
    assert (table.spool_rows, table.spool_bytes) == (500, 2048)
    assert table.spool_since == datetime.fromtimestamp(SINCE, UTC)
    observer.spooled(TRADES, NOTHING)
    text = observer.render_metrics().decode()
    assert 'cdc_spool_rows{table="main.trades"} 0.0' in text
    assert "cdc_spool_oldest_timestamp_seconds{" not in text
    assert observer.status().tables[0].spool_since is None


def test_the_log_says_once_when_spooling_begins_and_once_when_it_has_ended(
    observer: ReplicationObserver,
) -> None:
    with structlog.testing.capture_logs() as lines:
        for rows in (10, 20, 5):
            observer.spooled(TRADES, Spooling(rows=rows, bytes=1, since=SINCE, share=0.1))
        observer.spooled(TRADES, NOTHING)
    assert [each["event"] for each in lines] == ["target away, rows are spooled", "spool delivered"]


def test_past_80_percent_of_the_room_an_alert_stands_until_there_is_room_again(
    observer: ReplicationObserver, clock: FakeClock
) -> None:
    observer.spooled(TRADES, Spooling(rows=1, bytes=1, since=SINCE, share=0.8))
    assert alerts(observer) == []
    observer.spooled(TRADES, Spooling(rows=1, bytes=1, since=SINCE, share=0.81))
    assert alerts(observer) == ["spool_room"]
    observer.spooled(TRADES, NOTHING)
    clock.advance(120.0)
    observer._look()
    assert alerts(observer) == []


def test_dropped_rows_are_counted_and_told_with_a_remedy(observer: ReplicationObserver) -> None:
    with structlog.testing.capture_logs() as lines:
        observer.spool_discarded(TRADES, 7, "damaged in the state store")
    assert 'cdc_spool_discarded_rows_total{table="main.trades"} 7.0' in observer.render_metrics().decode()
    (line,) = lines
    assert line["reason"] == "damaged in the state store"
    assert "cdc verify main.trades" in line["remedy"]


def test_cdc_status_says_how_many_rows_wait_in_the_spool_and_since_when(
    tmp_path: Path, observer: ReplicationObserver, clock: FakeClock
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        f'[database]\npath = "{(tmp_path / "t.duckdb").as_posix()}"\n'
        '[sync]\nclickhouse_endpoint = "http://localhost"\n'
    )
    (tmp_path / "t.duckdb.cdc").mkdir()
    observer.spooled(TRADES, Spooling(rows=12_000, bytes=3_000_000, since=clock.wall() - 300, share=0.1))
    status = observer.status().model_copy(
        update={"pid": os.getpid(), "process_start": psutil.Process().create_time(), "state": "running"}
    )
    write_status(load(path, {}).status_path, status)
    result = CliRunner().invoke(build_app(), ["--config", str(path), "status"], env={"COLUMNS": "200"})
    assert "main.trades: 12,000 rows (3.0 MB) wait in the spool, the oldest for 5 min" in result.stdout
