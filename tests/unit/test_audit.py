"""Each table is audited after the start and then once in the interval, at a small share of a core."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from cdc.change import TableId, TablePlan
from cdc.comparison.audit import AGAIN_SECONDS, AuditFindings, Auditor, AuditReport, Kind
from cdc.comparison.pacing import SharePacing
from cdc.comparison.reconciler import LoopState
from cdc.comparison.reconciliation import Found, Reconciled
from cdc.comparison.repair import Repaired
from cdc.errors import LeaseHeld, Meaning, TargetError
from cdc.replicator.delivery import Stopped
from tests.support.clock import FakeClock
from tests.support.replication import PLAN, plan

DAY = 86400.0
A, B = PLAN, plan("orders")
REFUSED = TargetError("read", "t", "may not", "GRANT", code=497)
AWAY = TargetError("read", "t", "away", "wait", meaning=Meaning.RETRY)

Work = Callable[[SharePacing], Reconciled]


class Bench:
    """An auditor over two tables, whose work is what a test says."""

    def __init__(self) -> None:
        self.clock, self.stop = FakeClock(), threading.Event()
        self.plans: dict[TableId, TablePlan] = {A.table: A, B.table: B}
        self.states = {table: LoopState(True, 0, 0) for table in self.plans}
        self.broken: set[TableId] = set()
        self.reachable = True
        self.worked: list[TableId] = []
        self.reports: list[AuditReport] = []
        self.found: list[Mapping[Kind, int]] = []
        self.lost: list[LeaseHeld] = []
        self.work: Work = lambda pacing: Reconciled()
        self.auditor = Auditor(
            self._work,
            self,
            plans=lambda: self.plans,
            standing=lambda table: self.states[table],
            broken=lambda table: table in self.broken,
            reachable=lambda: self.reachable,
            crowded=lambda: False,
            interval_seconds=DAY,
            cpu_percent=2.0,
            process_cpu=self.clock.thread_cpu,
            lost=self.lost.append,
            clock=self.clock,
            stop=self.stop,
        )

    def _work(self, plan: TablePlan, pacing: SharePacing, found: Found) -> Reconciled:
        self.worked.append(plan.table)
        return self.work(pacing)

    def audit_begun(self, table: TableId) -> None: ...

    def audit_found(self, table: TableId, found: AuditFindings, more: Mapping[Kind, int]) -> None:
        self.found.append(more)

    def audited(self, report: AuditReport) -> None:
        self.reports.append(report)

    def look(self, times: int = 4) -> list[TableId]:
        """The tables audited now."""
        self.worked.clear()
        for _ in range(times):
            self.auditor.look()
        return list(self.worked)

    def fails(self, error: Exception) -> None:
        def work(pacing: SharePacing) -> Reconciled:
            raise error

        self.work = work

    def outcomes(self) -> list[str]:
        return [report.outcome for report in self.reports]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_each_table_is_audited_after_the_start_and_again_after_the_interval(bench: Bench) -> None:
    assert bench.look() == [A.table, B.table]
    assert bench.outcomes() == ["equal", "equal"]
    assert bench.look() == []
    bench.clock.advance(DAY - 1.0)
    assert bench.look() == []
    bench.clock.advance(1.0)
    assert bench.look() == [A.table, B.table]


def test_the_interval_is_from_beginning_to_beginning(bench: Bench) -> None:
    def long(pacing: SharePacing) -> Reconciled:
        bench.clock.advance(DAY / 2)
        return Reconciled()

    bench.plans.pop(B.table)
    bench.work = long
    assert bench.look() == [A.table]
    assert bench.reports[0].next_seconds == DAY / 2


@pytest.mark.parametrize("why", ["not running", "not caught up", "broken", "unreachable"])
def test_a_table_that_cannot_be_audited_now_waits_and_keeps_no_other_waiting(bench: Bench, why: str) -> None:
    match why:
        case "not running":
            bench.states[A.table] = LoopState(False, 0, 0)
        case "not caught up":
            bench.states[A.table] = LoopState(True, 0, None)
        case "broken":
            bench.broken.add(A.table)
        case "unreachable":
            bench.reachable = False
    assert bench.look() == ([] if why == "unreachable" else [B.table])
    bench.reachable, bench.states[A.table] = True, LoopState(True, 0, 0)
    bench.broken.clear()
    assert A.table in bench.look()


def test_a_table_that_was_altered_and_one_that_is_asked_for_are_audited_at_once(bench: Bench) -> None:
    bench.look()
    bench.plans[A.table] = replace(A, columns=A.columns[:1])
    bench.auditor.ask(B.table)
    assert sorted(bench.look()) == sorted([A.table, B.table])
    assert bench.look() == []


def test_a_request_during_an_audit_asks_for_one_more(bench: Bench) -> None:
    bench.plans.pop(B.table)

    def work(pacing: SharePacing) -> Reconciled:
        bench.auditor.ask(A.table)
        bench.work = lambda pacing: Reconciled()
        return Reconciled()

    bench.work = work
    assert bench.look() == [A.table, A.table]


def test_what_differs_all_the_same_is_audited_again_within_the_hour(bench: Bench) -> None:
    bench.work = lambda pacing: Reconciled(Repaired(sent=3), left=2)
    bench.look()
    assert bench.outcomes() == ["different", "different"]
    bench.clock.advance(AGAIN_SECONDS)
    assert len(bench.look()) == 2


def test_a_failure_is_tried_again_soon_and_then_less_often(bench: Bench) -> None:
    bench.plans.pop(B.table)
    bench.fails(AWAY)
    bench.look()
    bench.clock.advance(60.0)
    bench.look()
    assert [report.next_seconds for report in bench.reports] == [60.0, 120.0]
    assert bench.reports[0].error is AWAY


def test_a_user_who_may_not_read_is_asked_again_after_the_interval(bench: Bench) -> None:  # [S4]
    bench.fails(REFUSED)
    bench.look()
    assert [(report.outcome, report.next_seconds) for report in bench.reports] == [("refused", DAY)] * 2


def test_an_audit_ends_when_the_table_leaves_its_state_and_begins_anew_when_it_is_back(bench: Bench) -> None:
    bench.plans.pop(B.table)

    def halts(pacing: SharePacing) -> Reconciled:
        bench.states[A.table] = LoopState(False, 1, 0)
        bench.clock.work(1.0)
        pacing.rest()
        raise AssertionError("it was to end")

    bench.work = halts
    assert bench.look() == [A.table]
    assert bench.outcomes() == ["interrupted"]
    bench.work, bench.states[A.table] = lambda pacing: Reconciled(), LoopState(True, 2, 0)
    bench.clock.advance(1.0)
    assert bench.look() == [A.table]


def test_a_defect_in_one_audit_is_told_and_ends_nothing(bench: Bench) -> None:
    bench.fails(ZeroDivisionError("by zero"))
    assert bench.look() == [A.table, B.table]
    assert "report it" in str(bench.reports[0].error)


def test_a_lost_lease_ends_it_and_the_replicator(bench: Bench) -> None:  # [R8]
    error = LeaseHeld("audit", "t", "another", "stop")
    bench.fails(error)
    bench.auditor.run()
    assert bench.lost == [error]


def test_it_keeps_to_its_share_of_a_core(bench: Bench) -> None:
    pacing = _pacing(bench, 2.0)
    began = bench.clock.monotonic()
    for _ in range(100):
        bench.clock.work(0.05)
        pacing.rest()
    assert (bench.clock.monotonic() - began) == pytest.approx(100 * 0.05 / 0.02, rel=0.02)
    assert max(bench.clock.waits) <= 1.0  # so that it soon sees that it is to end


def test_what_is_too_little_for_a_rest_counts_all_the_same(bench: Bench) -> None:
    pacing = _pacing(bench, 10.0)
    began = bench.clock.monotonic()
    for _ in range(1000):
        bench.clock.work(0.001)
        pacing.rest()
    assert (bench.clock.monotonic() - began) == pytest.approx(10.0, rel=0.02)


def test_the_processor_time_of_busy_tables_makes_it_rest_longer(bench: Bench) -> None:
    busy = [0.0]
    pacing = SharePacing(bench.clock, bench.stop, lambda: None, lambda: False, 10.0, lambda: busy[0])
    bench.clock.advance(0.1)
    busy[0] += 0.3  # of three threads
    pacing.rest()
    assert sum(bench.clock.waits) == pytest.approx(2.7)


def test_known_differences_are_mended_at_the_pace_of_a_reconciliation(bench: Bench) -> None:
    pacing = _pacing(bench, 2.0)
    pacing.hurried = True
    bench.clock.work(0.1)
    pacing.rest()
    assert sum(bench.clock.waits) == pytest.approx(0.1)


def test_a_stop_ends_a_rest(bench: Bench) -> None:
    pacing = _pacing(bench, 2.0)
    bench.clock.work(1.0)
    bench.stop.set()
    with pytest.raises(Stopped):
        pacing.rest()


def test_findings_are_told_in_a_line() -> None:
    found = AuditFindings(
        missing=2, different=5, examples=(("missing", ("1", None)), ("missing", ("2", "b")))
    )
    assert str(found) == "2 missing like (1, None) (2, b), 5 different"
    assert len(found) == 7


def _pacing(bench: Bench, percent: float) -> SharePacing:
    cpu = bench.clock.thread_cpu
    return SharePacing(bench.clock, bench.stop, lambda: None, lambda: False, percent, cpu)
