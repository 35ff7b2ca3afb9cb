"""A replication built from settings, in a thread of this process: it needs no command line. [F2 P5]"""

from __future__ import annotations

import gc
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog

from cdc.app.reconciling import ComparingThreads
from cdc.app.replication import Ended, Replication
from cdc.cli import priority
from cdc.config import Settings
from cdc.errors import CdcError, LeaseHeld
from cdc.observe.status import read_status
from tests.support.places import Place
from tests.support.waiting import wait_until
from tests.support.writers import Writer

pytestmark = pytest.mark.parametrize("any_place", ["embedded"], indirect=True)


class Running:
    """A replication in a thread, and how it ended."""

    def __init__(self, replication: Replication, *, standby: bool = False) -> None:
        self.stop = threading.Event()
        self.ended: Ended | None = None
        self.error: CdcError | None = None
        self._replication = replication
        self._standby = standby
        self._thread = threading.Thread(target=self._run, name="replication")
        self._thread.start()

    def _run(self) -> None:
        try:
            self.ended = self._replication.run(self.stop, standby=self._standby)
        except CdcError as error:
            self.error = error

    def wait(self) -> None:
        """Until it has ended by itself."""
        self._thread.join(30.0)
        assert not self._thread.is_alive()

    def finish(self) -> None:
        self.stop.set()
        self.wait()


@contextmanager
def running(settings: Settings) -> Iterator[Running]:
    found = Running(Replication(settings))
    try:
        yield found
    finally:
        found.finish()


@pytest.fixture
def settings(any_place: Place, tmp_path: Path) -> Settings:
    """Those of a file with a table `trades`, of which there is no writer yet."""
    return Settings.model_validate(
        {
            "database": {"path": tmp_path / "trades.duckdb"},
            "sync": {"clickhouse_endpoint": (str(any_place.endpoint),)},
            "state": {"directory": tmp_path / "state"},
            "defaults": {"watermark": "seq"},
            "target": {"auto_create": True, "database": any_place.database},
            "metrics": {"enabled": False},
        }
    )


@pytest.fixture
def writer(settings: Settings) -> Iterator[Writer]:
    assert settings.database.file is not None
    with Writer(settings.database.file) as writer:
        writer.run("CREATE TABLE trades (id BIGINT PRIMARY KEY, seq BIGINT NOT NULL)")
        writer.run("INSERT INTO trades SELECT i, i FROM range(100) t(i)")
        yield writer


def wait_for_rows(place: Place, rows: int) -> None:
    def arrived() -> bool:
        if place.query(f"EXISTS TABLE {place.database}.trades") == "0":
            return False
        return place.query(f"SELECT count() FROM {place.database}.trades FINAL") == str(rows)

    wait_until(arrived, f"{rows} rows in the target", 60.0)


def of_the_process() -> dict[str, Any]:
    """What belongs to the program that a replication runs in."""
    loggers = [logging.getLogger(name) for name in ("", "cdc", "clickhouse_driver")]
    return {
        "niceness": psutil.Process().nice(),
        "signal handlers": {each: signal.getsignal(each) for each in signal.valid_signals()},
        "logging": [(each.level, tuple(each.handlers), each.propagate, each.disabled) for each in loggers],
        "structlog": (structlog.is_configured(), structlog.get_config()),
        "threads of it": {each.name for each in threading.enumerate()},
    }


def test_rows_arrive_and_niceness_signals_logging_and_threads_are_as_they_were(
    any_place: Place, settings: Settings, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.performance.priority == "low", "the command gives way then"
    niceness = psutil.Process().nice()
    monkeypatch.setattr(priority, "give_way", lambda *_: pytest.fail("niceness is the command's"))
    before = of_the_process()
    with running(settings) as replication:
        wait_for_rows(any_place, 100)
        writer.run("INSERT INTO trades VALUES (100, 100)")
        wait_for_rows(any_place, 101)
        during = of_the_process()
        assert psutil.Process().nice() == niceness
    assert (replication.ended, replication.error) == (Ended(), None)
    assert (replication.ended, replication.error) == (Ended(), None)
    assert {**during, "threads of it": ()} == {**before, "threads of it": ()}
    assert of_the_process() == before
    status = read_status(settings.status_path)
    assert status is not None
    assert status.state == "stopped"


def test_it_goes_on_from_its_marks_when_it_is_run_again(
    any_place: Place, settings: Settings, writer: Writer
) -> None:
    replication = Replication(settings)
    first = Running(replication)
    wait_for_rows(any_place, 100)
    first.finish()
    writer.run("INSERT INTO trades VALUES (100, 100)")
    second = Running(replication)
    wait_for_rows(any_place, 101)
    second.finish()
    assert first.ended == second.ended == Ended()


def test_a_second_one_of_the_same_source_is_refused_and_the_first_goes_on(
    any_place: Place, settings: Settings, writer: Writer
) -> None:
    with running(settings) as first:
        wait_for_rows(any_place, 100)
        second = Running(Replication(settings))
        second.wait()
        assert isinstance(second.error, LeaseHeld)
        writer.run("INSERT INTO trades VALUES (100, 100)")
        wait_for_rows(any_place, 101)
    assert first.ended == Ended()


def test_one_that_waits_for_its_source_or_its_lease_ends_when_told_to(settings: Settings) -> None:
    with running(settings) as waiting:
        wait_until(settings.status_path.exists, "it waits for the source")
        standing_by = Running(Replication(settings), standby=True)
        standing_by.finish()
    assert standing_by.ended == waiting.ended == Ended()


def test_one_whose_read_does_not_end_says_so_keeps_its_lease_and_ends_nothing(
    any_place: Place, settings: Settings, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = ComparingThreads.join
    replication = Replication(settings)
    with monkeypatch.context() as patched:
        patched.setattr(ComparingThreads, "join", lambda thread: join(thread) and False)
        first = Running(replication)
        wait_for_rows(any_place, 100)
        first.finish()
    assert first.ended == Ended(reading=True)
    second = Running(Replication(settings))
    second.wait()
    assert isinstance(second.error, LeaseHeld), "two would write then"
    assert replication._left_open is not None
    replication._left_open.close()
    gc.collect()
    with running(settings) as third:
        writer.run("INSERT INTO trades VALUES (100, 100)")
        wait_for_rows(any_place, 101)
    assert third.ended == Ended()
