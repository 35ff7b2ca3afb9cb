"""Noticing a change: through the file system's notifications, and without them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc.change import NOWHERE
from cdc.clock import SystemClock
from cdc.errors import Meaning, SourceError
from cdc.source import open_source
from cdc.source.file.direct import attach_when_free
from cdc.source.file.pin import Pinner
from cdc.source.file.session import Session, SessionLimits
from cdc.source.file.watch import Watch
from tests.support.clock import FakeClock
from tests.support.waiting import wait_until
from tests.support.writers import Writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    with Writer(tmp_path / "t.db") as running:
        running.run("CREATE TABLE t (id BIGINT)")
        yield running


class Waiter:
    """A wait in a thread of its own, and whether the position changed."""

    def __init__(self, watch: Watch, timeout_seconds: float) -> None:
        self.answers: list[bool] = []
        since = watch.position()
        self._thread = threading.Thread(
            target=lambda: self.answers.append(watch.wait(since, timeout_seconds) != since)
        )
        self._thread.start()

    def answer(self) -> bool:
        wait_until(lambda: self.answers, "the wait ends")
        self._thread.join()
        return self.answers[0]


class CountingClock(SystemClock):
    """Counts waits, so that a test knows that one has begun."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        return super().wait(event, seconds)


@pytest.fixture
def clock() -> CountingClock:
    return CountingClock()


@pytest.fixture(params=[True, False], ids=["notified", "polling"])
def watch(writer: Writer, clock: CountingClock, request: pytest.FixtureRequest) -> Iterator[Watch]:
    watching = Watch(
        Pinner(writer.path, clock), clock, 3600.0 if request.param else 0.05, notify=request.param
    )
    yield watching
    watching.close()


def test_a_commit_a_checkpoint_and_a_close_each_end_the_wait(
    writer: Writer, watch: Watch, clock: CountingClock
) -> None:
    """With notifications the next look would be an hour away. [F2]"""
    for change in ("INSERT INTO t VALUES (1)", "CHECKPOINT", "INSERT INTO t VALUES (2)"):
        clock.waits.clear()
        waiter = Waiter(watch, 3600.0)
        wait_until(lambda: clock.waits, "the wait has begun")
        writer.run(change)
        assert waiter.answer()
    clock.waits.clear()
    waiter = Waiter(watch, 3600.0)
    wait_until(lambda: clock.waits, "the wait has begun")
    writer.close()
    assert waiter.answer()


def test_wake_ends_a_wait_at_once_and_for_good(watch: Watch, clock: CountingClock) -> None:
    waiter = Waiter(watch, 3600.0)
    wait_until(lambda: clock.waits, "the wait has begun")
    watch.wake()
    assert waiter.answer() is False
    assert watch.wait(watch.position(), 3600.0) == watch.position()


def test_a_wait_in_vain_ends_with_its_time(writer: Writer) -> None:
    clock = FakeClock()
    watch = Watch(Pinner(writer.path, clock), clock, 1.0, notify=False)
    began = clock.monotonic()
    assert watch.wait(watch.position(), 30.0) == watch.position()
    assert clock.monotonic() - began == pytest.approx(30.0)
    watch.close()


def test_a_position_that_differs_already_is_not_waited_for(writer: Writer) -> None:
    clock = FakeClock()
    watch = Watch(Pinner(writer.path, clock), clock, 1.0, notify=False)
    assert watch.wait(NOWHERE, 30.0) == watch.position()
    assert clock.waits == []
    watch.close()


def test_without_notifications_the_looks_grow_rarer_and_are_frequent_again_after_a_change(
    writer: Writer,
) -> None:
    clock = FakeClock()
    watch = Watch(Pinner(writer.path, clock), clock, 1.0, notify=False)
    watch.wait(watch.position(), 30.0)
    pauses = list(clock.waits)
    assert pauses[0] < 0.01
    assert max(pauses) == 1.0
    assert pauses[:-1] == sorted(pauses[:-1])
    since = watch.position()
    writer.run("INSERT INTO t VALUES (1)")
    assert watch.wait(since, 30.0) == watch.position() != since
    clock.waits.clear()
    watch.wait(watch.position(), 1.0)
    assert clock.waits[0] < 0.01
    watch.close()


def test_a_busy_writer_is_looked_at_and_a_calm_one_notifies_again(
    writer: Writer, clock: CountingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.source.file.watch._CALM_SECONDS", 0.5)  # so that a busy machine's writer is busy
    watch = Watch(Pinner(writer.path, clock), clock, 3600.0)
    writer.run("CREATE TABLE u (id BIGINT, v BIGINT)")
    writer.load("u", rows=1)

    def busy() -> bool:
        watch.wait(watch.position(), 20.0)
        return not watch.notified

    wait_until(busy, "notifications are turned off")
    writer.pause()
    waiter = Waiter(watch, 3600.0)
    wait_until(lambda: watch.notified, "notifications are turned on")
    writer.run("INSERT INTO t VALUES (1)")
    assert waiter.answer()
    watch.close()


def test_changes_during_long_rounds_come_without_a_pause(writer: Writer) -> None:
    clock = FakeClock()
    watch = Watch(Pinner(writer.path, clock), clock, 3600.0)
    notified = [watch.notified]
    for number in range(25):
        since = watch.position()
        writer.run(f"INSERT INTO t VALUES ({number})")
        clock.advance(0.2)  # a round that takes longer than a calm pause
        assert watch.wait(since, 20.0) != since
    notified.append(watch.notified)
    assert notified == [True, False]
    watch.close()


def test_our_own_reading_does_not_end_a_wait(writer: Writer, clock: CountingClock) -> None:
    watch = Watch(Pinner(writer.path, clock), clock, 3600.0)
    assert watch.notified
    waiter = Waiter(watch, 3600.0)
    wait_until(lambda: clock.waits, "the wait has begun")
    for _ in range(20):
        watch.position()
    writer.run("INSERT INTO t VALUES (1)")
    assert waiter.answer()
    assert len(clock.waits) < 10
    watch.close()


def test_a_file_without_a_writer_is_opened_directly_and_let_go(writer: Writer) -> None:
    """[issue 2 part 11]"""
    writer.run("INSERT INTO t VALUES (1)")
    writer.close()
    with open_source(writer.path, direct=True) as source:
        with source.snapshot() as snapshot:
            assert snapshot.query("SELECT count(*) FROM t").read_all().column(0).to_pylist() == [1]
        with Writer(writer.path) as again:
            again.run("INSERT INTO t VALUES (2)")
        with source.snapshot() as snapshot:
            assert snapshot.query("SELECT count(*) FROM t").read_all().column(0).to_pylist() == [2]


def test_a_held_file_is_waited_for_and_then_named_as_held(writer: Writer) -> None:
    clock = FakeClock()
    session = Session(SessionLimits(), opens=writer.path)
    with Pinner(writer.path, clock).pin() as pin:
        with pytest.raises(SourceError, match="its writer holds it") as caught:
            attach_when_free(session.attach, pin, clock, wait_seconds=5.0)
        assert caught.value.meaning is Meaning.RETRY
        assert sum(clock.waits) == pytest.approx(5.0)
    session.close()
