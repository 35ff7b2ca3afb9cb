"""What a person sees of rows that wait for their group, and of the copy in Redis. [F8, R14]"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import structlog
from prometheus_client import generate_latest
from typer.testing import CliRunner

from cdc.change import TableId
from cdc.cli import build_app
from cdc.config import load
from cdc.errors import CdcError
from cdc.observe.metrics import Metrics
from cdc.observe.observer import ReplicationObserver
from cdc.observe.record import About
from cdc.observe.redis_events import RedisEvents
from cdc.observe.status import write_status
from cdc.replicator.hold_decision import Early, Waiting
from tests.support.clock import FakeClock

FILLS = TableId("main", "fills")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(
        f'[database]\npath = "{(tmp_path / "t.duckdb").as_posix()}"\n'
        '[sync]\nclickhouse_endpoint = "http://localhost"\n'
    )
    (tmp_path / "t.duckdb.cdc").mkdir()
    return path


@pytest.fixture
def observer(tmp_path: Path) -> ReplicationObserver:
    about = About(config="c.toml", source="t.duckdb", targets=("http://localhost:8123",))
    return ReplicationObserver(Metrics(), tmp_path / "status.json", about, clock=FakeClock())


def test_held_rows_are_in_metrics_and_status_until_they_are_delivered(observer: ReplicationObserver) -> None:
    observer.held(FILLS, Waiting(rows=5, groups=2, since=1_700_000_000.0))
    text = observer.render_metrics().decode()
    for line in (
        'cdc_held_rows{table="main.fills"} 5.0',
        'cdc_held_groups{table="main.fills"} 2.0',
        'cdc_held_oldest_timestamp_seconds{table="main.fills"} 1.7e+09',
    ):
        assert line in text
    (table,) = observer.status().tables
    assert (table.held_rows, table.held_groups) == (5, 2)
    assert table.held_since == datetime.fromtimestamp(1_700_000_000, UTC)
    observer.held(FILLS, Waiting())
    text = observer.render_metrics().decode()
    assert 'cdc_held_rows{table="main.fills"} 0.0' in text
    assert "cdc_held_oldest_timestamp_seconds{" not in text


def test_groups_delivered_incomplete_are_an_alert_with_an_example(observer: ReplicationObserver) -> None:
    observer.delivered_early(FILLS, Early(3, 7, "order-9", "not complete after 60 s"))
    assert 'cdc_incomplete_groups_total{table="main.fills"} 3.0' in observer.render_metrics().decode()
    (alert,) = observer.status().alerts
    assert (alert.name, alert.subject, alert.severity) == ("incomplete_groups", "main.fills", "warning")
    assert alert.message == "3 groups delivered, such as order-9: not complete after 60 s"


def test_cdc_status_says_how_many_rows_wait_and_for_how_long(
    config: Path, observer: ReplicationObserver
) -> None:
    observer.held(FILLS, Waiting(rows=5, groups=2, since=1_760_000_000.0 - 90))
    status = observer.status()
    process = psutil.Process(os.getpid()).create_time()
    write_status(load(config, {}).status_path, status.model_copy(update={"process_start": process}))
    found = CliRunner().invoke(build_app(), ["-c", str(config), "status"], env={"DUCKDB_PATH": ""})
    assert "main.fills: 5 rows of 2 incomplete groups wait, the oldest for 90 s" in found.output


def test_a_trouble_with_redis_is_said_once_and_so_is_its_end() -> None:
    metrics = Metrics()
    events = RedisEvents(metrics.registry)
    error = CdcError("use Redis", "redis://h", "refused", "Start Redis")
    with structlog.testing.capture_logs() as log:
        for each in (error, error, None):
            events.redis_reached(each)
        events.redis_wrote(3)
        events.redis_dropped(4)
    assert [entry["log_level"] for entry in log] == ["warning", "info"]
    text = generate_latest(metrics.registry).decode()
    for line in (
        "cdc_redis_up 1.0",
        "cdc_redis_rows_total 3.0",
        "cdc_redis_dropped_rows_total 4.0",
        "cdc_redis_errors_total 2.0",
    ):
        assert line in text


def test_without_redis_there_are_no_metrics_of_it() -> None:
    assert b"cdc_redis" not in Metrics().render()
