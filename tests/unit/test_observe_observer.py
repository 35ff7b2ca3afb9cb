"""What becomes of the replicator's events."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from cdc.change import Column, Mark, Position, TableId, TablePlan
from cdc.config import LoggingConfig
from cdc.errors import CdcError, Meaning, SourceError, StateError, TargetError
from cdc.observe.log import logging_to
from cdc.observe.metrics import Metrics
from cdc.observe.observer import ReplicationObserver
from cdc.observe.record import About, FailedCount, as_number
from cdc.observe.status import read_status
from cdc.replicator.plan import LeftOut
from cdc.replicator.ports import Delivered, Observer, Spooling
from cdc.stored import TableProgress

TRADES = TableId("main", "trades")
LOG = TableId("main", "log")
ERROR = TargetError("insert into", "trades", "connection refused", "Start the server")


class FixedClock:
    """A clock moved by hand; `wait` returns at once, or blocks until the event when `blocks`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now

    def thread_cpu(self) -> float:
        return 0.0

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(30.0)


def plan(table: TableId) -> TablePlan:
    column = Column("seq", "BIGINT")
    return TablePlan(table, table.name, (column,), ("seq",), column)


def delivered(rows: int = 5, *, mark: str | None = "17", failed_rows: int = 0) -> Delivered:
    return Delivered(
        table=TRADES,
        target="trades",
        rows=rows,
        bytes=rows * 10,
        failed_rows=failed_rows,
        mark=None if mark is None else Mark(mark, ("k",)),
        position=Position(1, 3, 400),
        lag_seconds=0.02,
        encode_seconds=0.001,
        send_seconds=0.01,
    )


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def observer(tmp_path: Path, clock: FixedClock) -> ReplicationObserver:
    about = About(config="c.toml", source="t.duckdb", targets=("http://localhost:8123",))
    return ReplicationObserver(
        Metrics(), tmp_path / "state" / "status.json", about, stalled_seconds=60.0, clock=clock
    )


@pytest.fixture
def begun(observer: ReplicationObserver) -> ReplicationObserver:
    observer.begin(
        [plan(TRADES), plan(LOG)],
        [LeftOut(TableId("main", "tmp"), "no key")],
        {TRADES: TableProgress(mark=Mark("12", ("k",)), failed_rows=2)},
    )
    return observer


def samples(observer: ReplicationObserver) -> dict[str, float]:
    """`name{value,value}` of the labels in the order of their names → value."""
    text = observer.render_metrics().decode()
    return {
        f"{sample.name}{{{','.join(value for _, value in sorted(sample.labels.items()))}}}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def table(observer: ReplicationObserver, name: str = "main.trades") -> dict[str, object]:
    return next(item.model_dump() for item in observer.status().tables if item.table == name)


def test_it_is_what_the_replicator_asks_for(observer: ReplicationObserver) -> None:
    port: Observer = observer
    port.cycle(TRADES, 0)
    assert [item.table for item in observer.status().tables] == ["main.trades"]


def test_the_beginning_is_where_the_store_left_off(begun: ReplicationObserver) -> None:
    assert table(begun)["watermark"] == "12"
    assert table(begun)["failed_rows"] == 2
    assert table(begun, "main.log")["watermark"] is None
    assert [(item.table, item.reason) for item in begun.status().left_out] == [("main.tmp", "no key")]
    values = samples(begun)
    assert values["cdc_watermark{main.trades}"] == 12
    assert values["cdc_failed_rows{main.trades}"] == 2
    assert "cdc_watermark{main.log}" not in values


def test_a_delivered_batch_is_counted(begun: ReplicationObserver) -> None:
    begun.delivered(delivered(5))
    begun.delivered(delivered(7, failed_rows=1))
    values = samples(begun)
    assert values["cdc_rows_total{main.trades}"] == 12
    assert values["cdc_bytes_total{main.trades}"] == 120
    assert values["cdc_batches_total{main.trades}"] == 2
    assert values["cdc_failed_rows{main.trades}"] == 3
    assert values["cdc_watermark{main.trades}"] == 17
    assert values["cdc_lag_seconds_count{main.trades}"] == 2
    assert values["cdc_lag_seconds_bucket{0.025,main.trades}"] == 2
    assert values["cdc_lag_seconds_bucket{0.01,main.trades}"] == 0
    shown = table(begun)
    assert (shown["rows"], shown["batches"], shown["failed_rows"]) == (12, 2, 3)
    assert (shown["watermark"], shown["position"], shown["lag_seconds"]) == ("17", "1:3:400", 0.02)


def test_a_batch_that_does_not_move_the_mark_leaves_the_watermark(begun: ReplicationObserver) -> None:
    begun.delivered(delivered(mark=None))
    assert table(begun)["watermark"] == "12"


def test_an_empty_cycle_moves_the_time_of_the_last_one(begun: ReplicationObserver, clock: FixedClock) -> None:
    begun.cycle(TRADES, 0)
    first = samples(begun)["cdc_last_cycle_timestamp_seconds{main.trades}"]
    clock.now += 30
    begun.cycle(TRADES, 0)
    values = samples(begun)
    assert values["cdc_last_cycle_timestamp_seconds{main.trades}"] == first + 30
    assert values["cdc_seconds_behind{main.trades}"] == 0
    assert values["cdc_rows_behind{main.trades}"] == 0


def test_how_far_behind_is_absent_while_it_is_unknown(begun: ReplicationObserver) -> None:
    assert "cdc_seconds_behind{main.trades}" not in samples(begun)
    begun.cycle(TRADES, 0)
    begun.retried(TRADES, ERROR, 1, 0.5)
    values = samples(begun)
    assert "cdc_seconds_behind{main.trades}" not in values
    assert "cdc_rows_behind{main.trades}" not in values
    assert table(begun)["seconds_behind"] is None
    begun.cycle(TRADES, 40)
    assert samples(begun)["cdc_rows_behind{main.trades}"] == 40
    begun.state(TRADES, "failed", ERROR)
    assert "cdc_rows_behind{main.trades}" not in samples(begun)


def test_a_table_is_in_one_state(begun: ReplicationObserver, clock: FixedClock) -> None:
    clock.now += 5
    begun.state(TRADES, "running")
    values = {
        key: value
        for key, value in samples(begun).items()
        if key.startswith("cdc_table_state") and "main.trades" in key
    }
    assert [key for key, value in values.items() if value] == ["cdc_table_state{running,main.trades}"]
    assert len(values) == 6
    since = table(begun)["since"]
    clock.now += 5
    begun.state(TRADES, "running")
    assert table(begun)["since"] == since


def test_errors_are_counted_by_class_and_shown_until_work_succeeds(begun: ReplicationObserver) -> None:
    begun.retried(TRADES, ERROR, 1, 0.5)
    begun.state(LOG, "failed", CdcError("read", "log", "gone", "Bring it back"))
    values = samples(begun)
    assert values["cdc_errors_total{TargetError}"] == 1
    assert values["cdc_errors_total{CdcError}"] == 1
    assert values["cdc_retries_total{main.trades}"] == 1
    assert table(begun)["error"] == "cannot insert into trades: connection refused. Start the server"
    begun.delivered(delivered())
    assert table(begun)["error"] is None
    assert table(begun, "main.log")["error"] == "cannot read log: gone. Bring it back"


def test_snapshot_retries_are_counted(begun: ReplicationObserver) -> None:
    begun.snapshot_superseded()
    assert samples(begun)["cdc_snapshot_retries_total{}"] == 1


def test_a_decoder_that_read_otherwise_than_duckdb_is_told_everywhere(begun: ReplicationObserver) -> None:
    begun.decoder_mismatch(TRADES, "the inserted values of price")
    assert samples(begun)["cdc_decoder_mismatches_total{main.trades}"] == 1
    status = begun.status()
    assert status.decoder_mismatch == "main.trades: the inserted values of price"
    [alert] = status.alerts
    assert (alert.name, alert.subject) == ("decoder_mismatch", "main.trades")
    assert "price" in alert.message


def test_the_breakers_state_is_asked_for(observer: ReplicationObserver) -> None:  # [R7]
    observer.begin([plan(TRADES)], [], {}, breaker=lambda: "half-open")
    assert observer.status().breaker == "half-open"
    values = samples(observer)
    assert [values[f"cdc_breaker_state{{{state}}}"] for state in ("closed", "open", "half-open")] == [0, 0, 1]


def test_it_is_ready_once_every_table_runs(observer: ReplicationObserver) -> None:
    assert observer.ready().problems == ("the replicator is starting",)
    observer.begin([plan(TRADES), plan(LOG)], [], {})
    observer.state(TRADES, "running")
    observer.state(LOG, "failed", ERROR)
    (problem,) = observer.ready().problems
    assert problem == "main.log: failed: cannot insert into trades: connection refused. Start the server"
    observer.state(LOG, "running")
    assert observer.ready().ok


def test_a_table_not_heard_of_is_stalled_unless_it_said_how_long_it_waits(
    begun: ReplicationObserver, clock: FixedClock
) -> None:
    begun.cycle(TRADES, 0)
    begun.retried(LOG, ERROR, 3, 120.0)
    clock.now += 61
    assert begun.live().problems == ("main.trades: nothing heard for 61 s",)
    clock.now += 120
    assert len(begun.live().problems) == 2
    begun.cycle(TRADES, 0)
    begun.cycle(LOG, 0)
    assert begun.live().ok


@pytest.mark.parametrize(
    ("watermark", "number"),
    [
        ("17", 17.0),
        ("-1.5", -1.5),
        ("1970-01-02", 86400.0),
        ("1970-01-01 00:00:01.000000001", 1.000000001),
        ("1970-01-01 00:01:00+00", 60.0),
        ("290309-12-22 (BC) 00:00:00", None),
        ("0000-01-01", None),
        ("infinity", None),
        ("0190163d-8694-739b-aea5-966c26f8ad91", None),
        ("abc", None),
        ("", None),
        (None, None),
    ],
)
def test_a_watermark_is_a_number_where_it_can_be(watermark: str | None, number: float | None) -> None:
    assert as_number(watermark) == number


def until(observer: ReplicationObserver, path: Path, state: str) -> Iterator[None]:
    deadline = threading.Event()
    for _ in range(1000):
        found = read_status(path)
        if found is not None and any(item.state == state for item in found.tables):
            return
        deadline.wait(0.01)
        yield
    raise AssertionError(f"the status file never said {state}: {read_status(path)}")


def test_a_change_of_state_is_in_the_file_at_once_and_the_end_is_its_last_word(
    observer: ReplicationObserver, tmp_path: Path
) -> None:
    path = tmp_path / "state" / "status.json"
    with observer:
        observer.begin([plan(TRADES)], [], {})
        for state in ("snapshot", "running"):  # the clock's wait ends by a change of state alone
            observer.state(TRADES, state)
            for _ in until(observer, path, state):
                pass
        observer.about(About(config="c", source="s", targets=(), page="http://127.0.0.1:1"))
    found = read_status(path)
    assert found is not None
    assert (found.state, found.page) == ("stopped", "http://127.0.0.1:1")


def test_a_status_file_that_cannot_be_written_stops_nothing(
    observer: ReplicationObserver, tmp_path: Path
) -> None:
    (tmp_path / "state" / "status.json").mkdir(parents=True)
    with observer:
        observer.begin([plan(TRADES)], [], {})
        observer.delivered(delivered())
    values = samples(observer)
    assert sum(value for key, value in values.items() if key.startswith("cdc_errors_total")) >= 1
    assert values["cdc_rows_total{main.trades}"] == 5


def test_a_state_directory_that_cannot_be_made_is_said(observer: ReplicationObserver, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StateError, match=r"state\.directory"), observer:
        raise AssertionError("there is no such directory")


def test_failed_rows_are_those_stored_so_that_retried_ones_are_gone(
    observer: ReplicationObserver, tmp_path: Path
) -> None:  # [R1]
    with observer:
        observer.begin(
            [plan(TRADES)], [], {}, failed_rows=lambda: {TRADES: FailedCount(3), LOG: FailedCount(9)}
        )
        observer.delivered(delivered(failed_rows=50))
    found = read_status(tmp_path / "state" / "status.json")
    assert found is not None
    assert [item.failed_rows for item in found.tables] == [3]
    assert samples(observer)["cdc_failed_rows{main.trades}"] == 3


def test_failed_rows_that_cannot_be_counted_stop_nothing(
    observer: ReplicationObserver, tmp_path: Path
) -> None:
    def damaged() -> dict[TableId, FailedCount]:
        raise CdcError("count", "state.sqlite3", "it is damaged", "Rebuild it")

    with observer:
        observer.begin([plan(TRADES)], [], {}, failed_rows=damaged)
        observer.delivered(delivered(failed_rows=1))
    found = read_status(tmp_path / "state" / "status.json")
    assert found is not None
    assert [item.failed_rows for item in found.tables] == [1]


def test_events_of_many_threads_are_all_counted(begun: ReplicationObserver) -> None:
    def work() -> None:
        for _ in range(200):
            begun.delivered(delivered(1))
            begun.cycle(TRADES, 0)
            begun.status()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert table(begun)["rows"] == 800
    assert samples(begun)["cdc_rows_total{main.trades}"] == 800


@pytest.mark.parametrize(
    ("state", "spooled", "told"), [("snapshot", 0, False), ("running", 500, False), ("running", 0, True)]
)
def test_the_pace_of_trades_is_that_of_live_rows(
    begun: ReplicationObserver, clock: FixedClock, state: str, spooled: int, *, told: bool
) -> None:
    begun.state(TRADES, state)
    begun.spooled(TRADES, Spooling(spooled, 100 * spooled, None, 0.1))
    for _ in range(12):
        begun.delivered(delivered(10_000))
        begun._look()
        clock.now += 1
    assert ("trade_rate" in {alert.name for alert in begun.status().alerts}) is told


GONE = SourceError("read", "t.duckdb", "it is gone", "Bring it back", meaning=Meaning.RETRY)


@pytest.mark.parametrize(
    ("state", "error", "said"),
    [
        ("failed", ERROR, "connection refused"),
        ("paused", ERROR, "connection refused"),
        ("paused", GONE, "gone"),
    ],
)
def test_a_halt_is_one_line_in_the_log(
    tmp_path: Path, state: str, error: CdcError, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table's loop tells of one that it waits out twice, and an alert is raised besides. [issue 12]"""
    about = About(config="c.toml", source="t.duckdb", targets=())
    observer = ReplicationObserver(Metrics(), tmp_path / "status.json", about)
    with logging_to(LoggingConfig(log_format="json")):
        observer.begin([plan(TRADES)], [], {})
        observer.state(TRADES, state, error)
        if state == "paused":
            observer.retried(TRADES, error, 1, 0.5)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [line for line in lines if said in str(line)]
    assert [(line["event"], line["level"]) for line in told] == [("table halted", "warning")]
    assert error.remedy in told[0]["error"]
    assert observer.status().alerts


def test_a_retry_of_a_table_that_goes_on_is_a_line_of_its_own(
    begun: ReplicationObserver, clock: FixedClock
) -> None:
    with structlog.testing.capture_logs() as lines:
        begun.state(TRADES, "running")
        begun.retried(TRADES, ERROR, 2, 0.5)
    assert [line["event"] for line in lines] == ["table state", "retry"]
