"""When is a table reconciled? After changes may have gone unseen, once it runs, and not again and again.

What is remembered lies in the state store, so a break is mended by whoever comes next: this process, the one
after it, or a person with `cdc verify --repair`, whose success is seen there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from cdc.change import TableId, TablePlan, Unseen
from cdc.clock import Clock
from cdc.comparison.reconciliation import Reconciled
from cdc.errors import CdcError, LeaseHeld, TargetError
from cdc.replicator.delivery import Stopped
from cdc.state import Break

LOOK_SECONDS = 1.0
FIRST_RETRY_SECONDS = 10.0
"""After a failure that may pass, doubled each time up to the interval."""
MOST_INTERVALS = 12
"""What stays different is compared at ever longer intervals, up to so many times the configured one."""
WORK_SHARE = 0.1
"""Of the time that comparisons of a table may take which find it equal, where its log breaks all the time;
a long one comes at the configured interval all the same."""
LEISURE_SHARE = 0.02
"""Of the time that comparisons may take for what only cannot be excluded."""

DOUBTED = "DuckDB leaves some commits out of its log, and that one of them changed rows cannot be excluded"

Step = Literal["waiting", "comparing", "repairing"]
Outcome = Literal["equal", "repaired", "different", "refused", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class LoopState:
    """What a table's loop does just now."""

    running: bool
    """Caught up with once, and without trouble."""
    since: object
    """Differs after it has left that state and come back."""
    cycle: object
    """Differs after the next time it was caught up with."""


@dataclass(frozen=True, slots=True)
class ReconciliationReport:
    """A reconciliation is over."""

    table: TableId
    outcome: Outcome
    result: Reconciled
    seconds: float
    next_seconds: float
    """Until the next one, where the table is not known to be equal."""
    error: CdcError | None = None
    failures: int = 0
    """So many comparisons of the table in a row came to no end, or left it different."""
    doubted: bool = False
    """Nothing is known to have gone unseen: it could not be excluded."""


class Memory(Protocol):
    """Where breaks are remembered; see `cdc.state.Breaks`."""

    def note(self, table: TableId, reason: str) -> None: ...

    def standing(self) -> Sequence[Break]: ...

    def mended(self, found: Break) -> bool: ...


class Work(Protocol):
    """See `Reconciliation.reconcile`."""

    def __call__(
        self, plan: TablePlan, look: Callable[[], None], repairing: Callable[[], None]
    ) -> Reconciled: ...


class Events(Protocol):
    """Told what becomes of breaks; must neither raise nor block."""

    def break_stands(self, found: Break, *, by_itself: bool) -> None:
        """It is remembered, from an earlier run or this one; mended `by_itself`, or by a person."""
        ...

    def break_mended(self, table: TableId) -> None:
        """Source and target were found equal since."""
        ...

    def reconciling(self, table: TableId, step: Step) -> None: ...

    def reconciled(self, event: ReconciliationReport) -> None: ...

    def reconciler_failed(self, error: CdcError) -> None:
        """Breaks cannot be read or forgotten just now."""
        ...


class Interrupted(Exception):
    """The table no longer runs as it did when the comparison began."""


@dataclass(slots=True)
class _Attempts:
    """Comparisons of one table in this run."""

    failed: int = 0
    """In a row,"""
    different: int = 0
    """and so many that found it different although rows were sent again."""
    not_before: float = float("-inf")
    at_leisure: float = float("-inf")
    """When it is time for a table that is only doubted."""
    plan: TablePlan | None = None
    since: object = None
    """Of the last one, if it came to no end."""

    @property
    def in_vain(self) -> int:
        return self.failed + self.different

    def of_another(self, plan: TablePlan, since: object) -> bool:
        """What the last one failed by may be gone: the table was planned or set up anew since."""
        return self.plan is not None and (plan, since) != (self.plan, self.since)


class Reconciler:
    """Mends one table at a time. `heard` may be called by any thread, `run` by one."""

    def __init__(
        self,
        memory: Memory,
        work: Work | None,
        events: Events,
        *,
        plans: Callable[[], Mapping[TableId, TablePlan]],
        standing: Callable[[TableId], LoopState],
        reachable: Callable[[], bool],
        interval_seconds: float,
        lost: Callable[[LeaseHeld], None],
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        """
        Args:
            work: None: breaks are remembered, and mended by a person only.
            plans: the tables replicated now.
            reachable: whether the target may be asked.
            lost: is told that another replicator has taken over.
        """
        self._memory = memory
        self._work = work
        self._events = events
        self._plans = plans
        self._standing = standing
        self._reachable = reachable
        self._interval = interval_seconds
        self._lost = lost
        self._clock = clock
        self._stop = stop
        self._told: dict[TableId, Break] = {}
        self._attempts: dict[TableId, _Attempts] = {}
        self._cycle_at_break: dict[TableId, object] = {}
        self._doubted: set[TableId] = set()
        """Tables to be compared at leisure."""

    def __repr__(self) -> str:
        return f"Reconciler({[str(table) for table in self._told]})"

    def heard(self, table: TableId, unseen: Unseen) -> None:
        """It is remembered that changes of the table may have gone unseen, and rows after them are delivered
        next: what is compared before that would only differ."""
        if not unseen.urgent:
            self._doubted.add(table)
        self._cycle_at_break[table] = self._standing(table).cycle

    def run(self) -> None:
        """Until stopped, or until another replicator has taken over; no error leaves this method."""
        while not self._stop.is_set():
            try:
                self.look()
            except Stopped:
                return
            except LeaseHeld as error:
                self._lost(error)
                return
            except CdcError as error:
                self._events.reconciler_failed(error)
            except Exception as error:  # noqa: BLE001 - a defect here is to be told, and to end nothing else
                self._events.reconciler_failed(_unexpected("tables", error))
            self._clock.wait(self._stop, LOOK_SECONDS)

    def look(self) -> None:
        """See what is remembered, and mend the first table whose time it is.

        Raises:
            Stopped: a stop was asked for.
            LeaseHeld: another replicator has taken over.
            StateError: the store cannot be read or written.
        """
        standing = {each.table: each for each in self._memory.standing()}
        for table in self._told.keys() - standing.keys():
            self._attempts.pop(table, None)  # somebody else has found it equal
            self._forget(table)
        for found in standing.values():
            if self._told.get(found.table) != found:
                self._told[found.table] = found
                self._events.break_stands(found, by_itself=self._work is not None)
        if self._work is None:
            return
        plans = self._plans()
        for table in (*standing, *(self._doubted - standing.keys())):
            plan = plans.get(table)
            if plan is not None and self._due(table, plan, urgent=table in standing):
                self._reconcile(standing.get(table), plan, self._work)
                return

    def _forget(self, table: TableId) -> None:
        """Source and target are equal."""
        self._told.pop(table, None)
        self._events.break_mended(table)

    def _due(self, table: TableId, plan: TablePlan, *, urgent: bool) -> bool:
        attempts, standing = self._attempts.get(table), self._standing(table)
        if not standing.running or standing.cycle in (None, self._cycle_at_break.get(table)):
            return False
        if not self._reachable():
            return False
        if attempts is None or attempts.of_another(plan, standing.since):
            return True
        return self._clock.monotonic() >= (attempts.not_before if urgent else attempts.at_leisure)

    def _reconcile(self, found: Break | None, plan: TablePlan, work: Work) -> None:
        """Compare and mend the table of `plan`; `found` is what is remembered of it, None: it is doubted."""
        table = plan.table
        began, since = self._clock.monotonic(), self._standing(table).since
        self._doubted.discard(table)

        def look() -> None:
            standing = self._standing(table)
            if not standing.running or standing.since != since:
                raise Interrupted

        self._events.reconciling(table, "comparing")
        result = Reconciled()
        error: CdcError | None = None
        try:
            result = work(plan, look, lambda: self._events.reconciling(table, "repairing"))
        except Interrupted:
            outcome: Outcome = "interrupted"
        except (Stopped, LeaseHeld):
            raise
        except CdcError as failed:
            if self._stop.is_set():  # what it read was closed under it
                raise Stopped from None
            refused = isinstance(failed, TargetError) and failed.not_allowed
            outcome, error = "refused" if refused else "failed", failed
        except Exception as unexpected:  # noqa: BLE001 - the breaks of other tables are to be mended all the same
            outcome, error = "failed", _unexpected(table, unexpected)
        else:
            sent = result.repaired.sent + result.repaired.deleted
            outcome = "different" if result.left else "repaired" if sent else "equal"
        seconds = self._clock.monotonic() - began
        attempts = self._attempts.setdefault(table, _Attempts())
        attempts.plan, attempts.since = (plan, since) if error or outcome == "interrupted" else (None, None)
        pause = self._pause(attempts, outcome, seconds - result.waited_seconds)
        now = self._clock.monotonic()
        attempts.not_before = now + pause
        attempts.at_leisure = now + max(pause, self._interval, seconds / LEISURE_SHARE)
        doubted = found is None
        self._events.reconciled(
            ReconciliationReport(table, outcome, result, seconds, pause, error, attempts.in_vain, doubted)
        )
        if outcome not in ("equal", "repaired"):
            if found is None and outcome == "refused":
                self._memory.note(table, DOUBTED)  # until somebody who may read the target has compared
            elif found is None:
                self._doubted.add(table)
            self._events.reconciling(table, "waiting")
        elif found is None or self._memory.mended(found):
            self._forget(table)
        else:
            self._events.reconciling(table, "waiting")

    def _pause(self, attempts: _Attempts, outcome: Outcome, worked_seconds: float) -> float:
        """Until the next comparison of the table, if it is needed."""
        if outcome in ("equal", "repaired"):  # needed if another break came meanwhile
            attempts.failed = attempts.different = 0
            return min(self._interval, worked_seconds / WORK_SHARE)
        if outcome == "different":
            attempts.different += 1
            if attempts.different == 1:  # the table may have changed meanwhile, where its log is not followed
                return min(self._interval, FIRST_RETRY_SECONDS)
            return self._interval * min(MOST_INTERVALS, 2.0 ** (attempts.different - 2))
        if outcome == "refused":
            return self._interval
        attempts.failed += outcome == "failed"
        return min(self._interval, FIRST_RETRY_SECONDS * 2.0 ** min(max(0, attempts.failed - 1), 20))


def _unexpected(table: TableId | str, error: Exception) -> CdcError:
    wrapped = CdcError(
        "reconcile",
        table,
        f"unexpected {type(error).__name__}: {error}",
        "This is a defect: report it with the log. The table is replicated all the same",
    )
    wrapped.__cause__ = error
    return wrapped
