"""When a table whose changes may have gone unseen is reconciled, and when it is left alone. [R3]"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cdc.change import TableId, TablePlan, Unseen
from cdc.comparison.reconciler import (
    DOUBTED,
    FIRST_RETRY_SECONDS,
    LEISURE_SHARE,
    MOST_INTERVALS,
    WORK_SHARE,
    Interrupted,
    LoopState,
    Reconciler,
    ReconciliationReport,
    Step,
)
from cdc.comparison.reconciliation import Reconciled
from cdc.comparison.repair import Repaired
from cdc.errors import CdcError, LeaseHeld, Meaning, TargetError
from cdc.replicator.delivery import Stopped
from cdc.state import Break, open_store
from tests.support.clock import FakeClock
from tests.support.replication import plan

A, B = plan("a"), plan("b")
RUNS = LoopState(running=True, since=1.0, cycle=5.0)
INTERVAL = 300.0
AWAY = TargetError("query", "it", "nobody answers", "Start it", meaning=Meaning.RETRY)
FORBIDDEN = TargetError("query", "it", "not enough privileges", "Grant it", code=497)
EQUAL = Reconciled()
UNSEEN = Unseen("the log was cut")

Outcome = Reconciled | Exception


@dataclass
class Told:
    """The reconciler's events, remembered."""

    stands: list[tuple[TableId, bool]] = field(default_factory=list)
    mended: list[TableId] = field(default_factory=list)
    steps: list[tuple[TableId, Step]] = field(default_factory=list)
    reports: list[ReconciliationReport] = field(default_factory=list)
    failures: list[CdcError] = field(default_factory=list)

    def break_stands(self, found: Break, *, by_itself: bool) -> None:
        self.stands.append((found.table, by_itself))

    def break_mended(self, table: TableId) -> None:
        self.mended.append(table)

    def reconciling(self, table: TableId, step: Step) -> None:
        self.steps.append((table, step))

    def reconciled(self, event: ReconciliationReport) -> None:
        self.reports.append(event)

    def reconciler_failed(self, error: CdcError) -> None:
        self.failures.append(error)

    @property
    def outcomes(self) -> list[str]:
        return [each.outcome for each in self.reports]


class Bench:
    """A reconciler over a real store, with work that does what a test says."""

    def __init__(self, directory: Path, *, enabled: bool = True) -> None:
        self.clock = FakeClock()
        self.store = open_store(directory, clock=self.clock)
        self.breaks = self.store.breaks("db")
        self.told = Told()
        self.plans = {each.table: each for each in (A, B)}
        self.standing = {A.table: RUNS, B.table: RUNS}
        self.reachable = True
        self.stop = threading.Event()
        self.lost: list[LeaseHeld] = []
        self.outcomes: list[Outcome] = []
        self.worked: list[TableId] = []
        self.during: Callable[[Callable[[], None]], None] = lambda look: None
        self.seconds = 2.0
        self.reconciler = Reconciler(
            self.breaks,
            self._work if enabled else None,
            self.told,
            plans=lambda: self.plans,
            standing=lambda table: self.standing[table],
            reachable=lambda: self.reachable,
            interval_seconds=INTERVAL,
            lost=self.lost.append,
            clock=self.clock,
            stop=self.stop,
        )

    def _work(self, plan: TablePlan, look: Callable[[], None], repairing: Callable[[], None]) -> Reconciled:
        self.worked.append(plan.table)
        self.clock.advance(self.seconds)
        self.during(look)
        outcome = self.outcomes.pop(0) if self.outcomes else EQUAL
        if isinstance(outcome, Exception):
            raise outcome
        if outcome != EQUAL:
            repairing()
        return outcome

    def break_table(self, table: TablePlan = A, unseen: Unseen = UNSEEN) -> None:
        """A break, after which the table is caught up with again."""
        self.note(table, unseen)
        self.standing[table.table] = replace(self.standing[table.table], cycle=object())

    def note(self, table: TablePlan = A, unseen: Unseen = UNSEEN) -> None:
        """Have it remembered, and told, that changes of the table may have gone unseen."""
        if unseen.urgent:
            self.breaks.note(table.table, unseen.reason)
        self.reconciler.heard(table.table, unseen)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.reconciler.look()

    def until_next(self) -> float:
        """The seconds from the last comparison to the next one."""
        before, began = len(self.worked), self.clock.monotonic()
        while len(self.worked) == before:
            self.clock.advance(1.0)
            self.look()
            assert self.clock.monotonic() - began < 100_000, "it never comes"
        return self.clock.monotonic() - began - self.seconds


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_broken_table_is_reconciled_once_and_the_break_is_forgotten(bench: Bench) -> None:
    bench.outcomes = [Reconciled(Repaired(sent=3, deleted=4))]
    bench.break_table()
    bench.look(5)
    assert bench.worked == [A.table]
    assert bench.told.outcomes == ["repaired"]
    assert bench.told.steps == [(A.table, "comparing"), (A.table, "repairing")]
    assert (bench.told.stands, bench.told.mended) == ([(A.table, True)], [A.table])
    assert bench.breaks.standing() == ()


def test_nothing_is_compared_that_did_not_break(bench: Bench) -> None:
    bench.look(5)
    assert bench.worked == []


def test_it_waits_until_the_table_was_caught_up_with_after_the_break(bench: Bench) -> None:
    bench.note()
    bench.look(3)
    assert bench.worked == []
    bench.standing[A.table] = replace(RUNS, cycle=6.0)
    bench.look()
    assert bench.worked == [A.table]


def test_a_break_of_an_earlier_run_waits_for_the_first_time_this_one_is_caught_up(tmp_path: Path) -> None:
    first = Bench(tmp_path)
    first.note()
    first.store.close()
    second = Bench(tmp_path)
    second.standing[A.table] = LoopState(running=True, since=1.0, cycle=None)
    second.look(3)
    assert (second.worked, second.told.stands) == ([], [(A.table, True)])
    second.standing[A.table] = RUNS
    second.look()
    assert (second.worked, second.told.mended) == ([A.table], [A.table])


@pytest.mark.parametrize("why", ["resync, halted or paused", "the target away", "not replicated"])
def test_it_waits_while_the_table_cannot_be_reconciled(bench: Bench, why: str) -> None:
    bench.break_table()
    runs = bench.standing[A.table]
    bench.standing[A.table] = replace(runs, running=why != "resync, halted or paused")
    bench.reachable = why != "the target away"
    bench.plans = {} if why == "not replicated" else bench.plans
    bench.look(3)
    assert (bench.worked, len(bench.breaks.standing())) == ([], 1)
    bench.standing[A.table], bench.reachable, bench.plans = runs, True, {A.table: A}
    bench.look()
    assert bench.worked == [A.table]


def test_a_table_that_waits_does_not_keep_another_waiting(bench: Bench) -> None:
    bench.break_table(A)
    bench.clock.advance(1.0)
    bench.break_table(B)
    bench.standing[A.table] = replace(RUNS, running=False)
    bench.look()
    assert bench.worked == [B.table]


def test_breaks_during_a_comparison_ask_for_one_more(bench: Bench) -> None:
    bench.break_table()

    def again(look: Callable[[], None]) -> None:
        if len(bench.worked) == 1:
            bench.break_table()
            bench.break_table()

    bench.during = again
    bench.look()
    assert (bench.told.outcomes, bench.told.mended) == (["equal"], [])
    bench.until_next()
    bench.look(1000)
    assert (bench.told.outcomes, bench.told.mended) == (["equal", "equal"], [A.table])


def test_a_log_that_breaks_all_the_time_takes_a_bounded_share_of_the_time(bench: Bench) -> None:
    bench.during = lambda look: bench.break_table()
    bench.break_table()
    bench.look()
    bench.seconds = 0.0
    assert bench.until_next() == pytest.approx(2.0 / WORK_SHARE, abs=1.0)


def test_what_stays_different_is_compared_at_ever_longer_intervals_and_the_break_stays(bench: Bench) -> None:
    bench.outcomes = [Reconciled(Repaired(sent=1), left=1)] * 7
    bench.break_table()
    bench.look()
    pauses = [bench.until_next() for _ in range(6)]
    longer = [INTERVAL, 2 * INTERVAL, 4 * INTERVAL, 8 * INTERVAL, MOST_INTERVALS * INTERVAL]
    expected = [FIRST_RETRY_SECONDS, *longer]
    assert [report.failures for report in bench.told.reports] == [1, 2, 3, 4, 5, 6, 7]
    assert pauses == pytest.approx(expected, abs=1.0)
    assert (set(bench.told.outcomes), len(bench.breaks.standing())) == ({"different"}, 1)


def test_a_failure_that_may_pass_is_tried_again_soon_and_then_less_often(bench: Bench) -> None:
    bench.outcomes = [AWAY] * 8
    bench.break_table()
    bench.look()
    pauses = [bench.until_next() for _ in range(7)]
    assert pauses == pytest.approx([min(INTERVAL, FIRST_RETRY_SECONDS * 2**n) for n in range(7)], abs=1.0)
    bench.until_next()  # and this time it works
    assert (bench.told.outcomes[-1], bench.told.mended) == ("equal", [A.table])


def test_a_user_that_may_not_compare_is_asked_again_after_the_interval(bench: Bench) -> None:  # [S4]
    bench.outcomes = [FORBIDDEN]
    bench.break_table()
    bench.look()
    assert bench.told.outcomes == ["refused"]
    assert bench.told.reports[0].next_seconds == INTERVAL
    assert len(bench.breaks.standing()) == 1
    assert bench.until_next() == pytest.approx(INTERVAL, abs=1.0)


@pytest.mark.parametrize(
    "error", [TargetError("query", "it", "no such column", "Make it"), ValueError("a defect")]
)
@pytest.mark.parametrize("change", ["set up anew", "planned anew"])
def test_a_failure_is_tried_again_as_soon_as_its_cause_may_be_gone(
    bench: Bench, error: Exception, change: str
) -> None:
    bench.outcomes = [error]
    bench.break_table()
    bench.look(5)
    assert bench.told.outcomes == ["failed"]
    if change == "set up anew":
        bench.standing[A.table] = replace(bench.standing[A.table], since=2.0)
    else:
        bench.plans[A.table] = replace(A, filter="id > 0")
    bench.look()
    assert (bench.told.outcomes, bench.told.mended) == (["failed", "equal"], [A.table])


def test_failures_in_a_row_are_counted(bench: Bench) -> None:
    bench.outcomes = [AWAY, AWAY]
    bench.break_table()
    bench.look()
    bench.until_next()
    bench.until_next()
    assert [report.failures for report in bench.told.reports] == [1, 2, 0]


def test_a_long_comparison_rests_no_longer_than_the_interval(bench: Bench) -> None:
    """A second break meanwhile waits no longer than the configuration says."""
    bench.seconds = 23.0 * 60
    bench.during = lambda look: bench.break_table() if len(bench.worked) == 1 else None
    bench.break_table()
    bench.look()
    assert bench.until_next() == pytest.approx(INTERVAL, abs=1.0)


def test_the_wait_for_rows_on_their_way_is_no_work_to_rest_from(bench: Bench) -> None:
    bench.outcomes = [Reconciled(Repaired(deleted=1), waited_seconds=1.9)]
    bench.during = lambda look: bench.break_table() if len(bench.worked) == 1 else None
    bench.break_table()
    bench.look()
    assert bench.until_next() == pytest.approx(1.0, abs=1.0)


def test_a_table_that_is_only_doubted_is_compared_once_in_the_interval_and_nothing_is_remembered(
    bench: Bench,
) -> None:
    doubt = Unseen("it cannot be excluded", urgent=False)
    bench.break_table(unseen=doubt)
    assert bench.breaks.standing() == ()
    bench.look(3)
    assert (bench.worked, bench.told.outcomes, bench.told.stands) == ([A.table], ["equal"], [])
    assert bench.told.reports[0].doubted
    bench.break_table(unseen=doubt)
    bench.break_table(unseen=doubt)
    assert bench.until_next() == pytest.approx(INTERVAL, abs=1.0)
    bench.break_table(unseen=doubt)
    bench.break_table()
    assert bench.until_next() == pytest.approx(2.0 / WORK_SHARE, abs=1.0)


def test_a_doubt_that_the_user_may_not_settle_is_remembered_until_somebody_else_has_compared(
    bench: Bench,
) -> None:
    """[S4]"""
    bench.outcomes = [TargetError("query", "it", "not enough privileges", "Grant it", code=497)]
    bench.break_table(unseen=Unseen("it cannot be excluded", urgent=False))
    bench.look()
    assert [each.reason for each in bench.breaks.standing()] == [DOUBTED]
    bench.look()
    assert bench.told.stands == [(A.table, True)]


def test_comparing_at_leisure_takes_a_small_share_of_the_time(bench: Bench) -> None:
    bench.seconds = 60.0
    bench.break_table(unseen=Unseen("it cannot be excluded", urgent=False))
    bench.look()
    bench.break_table(unseen=Unseen("it cannot be excluded", urgent=False))
    assert bench.until_next() == pytest.approx(60.0 / LEISURE_SHARE, abs=1.0)


def test_a_doubted_table_that_is_different_or_fails_is_compared_again(bench: Bench) -> None:
    bench.outcomes = [AWAY, Reconciled(Repaired(sent=1), left=1)]
    bench.break_table(unseen=Unseen("it cannot be excluded", urgent=False))
    bench.look()
    bench.until_next()
    bench.until_next()
    bench.look(2000)
    assert bench.told.outcomes == ["failed", "different", "equal"]


@pytest.mark.parametrize("change", [{"running": False}, {"since": 2.0}])
def test_a_comparison_ends_when_the_table_leaves_its_state_and_another_follows(
    bench: Bench, change: dict[str, object]
) -> None:
    bench.break_table()
    runs = bench.standing[A.table]

    def leave(look: Callable[[], None]) -> None:
        look()
        bench.standing[A.table] = replace(runs, **change)  # type: ignore[arg-type]
        with pytest.raises(Interrupted):
            look()
        look()

    bench.during = leave
    bench.look()
    assert (bench.told.outcomes, bench.told.mended) == (["interrupted"], [])
    bench.during, bench.standing[A.table] = lambda look: None, runs
    assert bench.until_next() == pytest.approx(FIRST_RETRY_SECONDS, abs=1.0)
    assert bench.told.mended == [A.table]


def test_a_table_that_somebody_else_found_equal_is_not_compared_and_its_alert_resolves(bench: Bench) -> None:
    bench.reachable = False
    bench.break_table()
    bench.look()
    [found] = bench.breaks.standing()
    bench.breaks.mended(found)  # as `cdc verify` does
    bench.reachable = True
    bench.look()
    assert (bench.worked, bench.told.mended) == ([], [A.table])


def test_without_work_to_do_it_remembers_and_sees_what_others_mend(tmp_path: Path) -> None:
    bench = Bench(tmp_path, enabled=False)
    bench.break_table()
    bench.look(5)
    assert (bench.worked, bench.told.stands, bench.told.mended) == ([], [(A.table, False)], [])
    bench.breaks.mended(bench.breaks.standing()[0])
    bench.look()
    assert bench.told.mended == [A.table]


def test_a_lost_lease_ends_it_and_the_replicator(bench: Bench) -> None:  # [R8]
    bench.outcomes = [LeaseHeld("send", "it", "another has it", "Leave it")]
    bench.break_table()
    bench.reconciler.run()  # returns
    assert [error.problem for error in bench.lost] == ["another has it"]
    assert len(bench.breaks.standing()) == 1


def test_a_defect_in_the_decision_itself_is_told_and_ends_nothing(bench: Bench) -> None:
    bench.break_table()

    def fail(*_: object) -> LoopState:
        bench.stop.set()
        raise ZeroDivisionError("a defect")

    bench.reconciler._standing = fail
    bench.reconciler.run()  # returns
    [told] = bench.told.failures
    assert "unexpected ZeroDivisionError" in told.problem
    assert len(bench.breaks.standing()) == 1


def test_a_stop_ends_it_and_the_break_stays(bench: Bench) -> None:
    bench.outcomes = [Stopped()]
    bench.break_table()
    bench.reconciler.run()  # returns
    assert (bench.told.outcomes, len(bench.breaks.standing())) == ([], 1)
