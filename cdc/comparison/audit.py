"""Are source and target of every table equal, also where nobody has a reason to ask?

Each table is compared once after the start, then once in the configured interval, at a small share of a core,
and mended as the reconciler mends it. What is found is the sign of a fault that nobody thought of, or of
somebody else's hand in the target: it is counted, and told with the first rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np

from cdc.change import TableId, TablePlan
from cdc.clock import Clock
from cdc.comparison.compare import Comparer, Differences, Span, again
from cdc.comparison.digest import Hashes
from cdc.comparison.pacing import SharePacing
from cdc.comparison.reconciler import Interrupted, LoopState
from cdc.comparison.reconciliation import Found, Reconciled
from cdc.comparison.values import formatter, texts
from cdc.errors import CdcError, LeaseHeld, TargetError
from cdc.replicator.delivery import Stopped

LOOK_SECONDS = 1.0
AGAIN_SECONDS = 3600.0
"""What was found different is compared again so soon, or in the interval if that is shorter."""
FIRST_RETRY_SECONDS = 60.0
"""After a failure, doubled each time up to the interval."""
EXAMPLES = 3
"""Keys that are told of each kind."""

Outcome = Literal["equal", "repaired", "different", "refused", "failed", "interrupted"]
Kind = Literal["missing", "extra", "different"]
Key = tuple[str | None, ...]


@dataclass(slots=True)
class AuditFindings:
    """The rows of one table that differ, by kind, and the keys of the first of each."""

    missing: int = 0
    extra: int = 0
    different: int = 0
    examples: tuple[tuple[Kind, Key], ...] = ()

    def __len__(self) -> int:
        return self.missing + self.extra + self.different

    def counts(self) -> dict[Kind, int]:
        return {"missing": self.missing, "extra": self.extra, "different": self.different}

    def __str__(self) -> str:
        return ", ".join(self._told(kind, rows) for kind, rows in self.counts().items() if rows)

    def _told(self, kind: Kind, rows: int) -> str:
        keys = [f"({', '.join(map(str, key))})" for told, key in self.examples if told == kind]
        return f"{rows} {kind}" + (f" like {' '.join(keys)}" if keys else "")


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The audit of one table is over."""

    table: TableId
    outcome: Outcome
    found: AuditFindings
    result: Reconciled
    seconds: float
    next_seconds: float
    """Until the table's next one."""
    error: CdcError | None = None


class AuditWork(Protocol):
    """See `Reconciliation.audit`."""

    def __call__(self, plan: TablePlan, pacing: SharePacing, found: Found) -> Reconciled: ...


class AuditEvents(Protocol):
    """Told what the audit does; must neither raise nor block."""

    def audit_begun(self, table: TableId) -> None: ...

    def audit_found(self, table: TableId, found: AuditFindings, more: Mapping[Kind, int]) -> None:
        """Rows differ: all that were `found` so far, and so many `more` just now. They are mended next."""
        ...

    def audited(self, report: AuditReport) -> None: ...


@dataclass(slots=True)
class _Turn:
    """When a table is next audited."""

    plan: TablePlan
    due: float
    failures: int = 0


class Auditor:
    """Audits one table at a time. `ask` may be called by any thread, `run` by one."""

    def __init__(
        self,
        work: AuditWork,
        events: AuditEvents,
        *,
        plans: Callable[[], Mapping[TableId, TablePlan]],
        standing: Callable[[TableId], LoopState],
        broken: Callable[[TableId], bool],
        reachable: Callable[[], bool],
        crowded: Callable[[], bool],
        interval_seconds: float,
        cpu_percent: float,
        process_cpu: Callable[[], float],
        lost: Callable[[LeaseHeld], None],
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        """
        Args:
            plans: the tables replicated now.
            broken: whether changes of the table may have gone unseen: then it is the reconciler's.
            reachable: whether the target may be asked.
            crowded: whether the process holds too much memory just now.
            process_cpu: gives the processor time that the process has taken, in seconds.
            lost: is told that another replicator has taken over.
        """
        self._work = work
        self._events = events
        self._plans = plans
        self._standing = standing
        self._broken = broken
        self._reachable = reachable
        self._crowded = crowded
        self._interval = interval_seconds
        self._cpu_percent = cpu_percent
        self._process_cpu = process_cpu
        self._lost = lost
        self._clock = clock
        self._stop = stop
        self._lock = threading.Lock()
        self._turns: dict[TableId, _Turn] = {}

    def __repr__(self) -> str:
        return f"Auditor({[str(table) for table in self._turns]})"

    def ask(self, table: TableId) -> None:
        """Have the table audited as soon as it can be."""
        with self._lock:
            if (turn := self._turns.get(table)) is not None:
                turn.due = float("-inf")

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
            self._clock.wait(self._stop, LOOK_SECONDS)

    def look(self) -> None:
        """Audit the table that has waited longest, if the time of any has come.

        Raises:
            Stopped: a stop was asked for.
            LeaseHeld: another replicator has taken over.
        """
        plans, now = self._plans(), self._clock.monotonic()
        with self._lock:
            self._turns = {
                table: turn
                if (turn := self._turns.get(table)) is not None and turn.plan == plan
                else _Turn(plan, float("-inf"))
                for table, plan in plans.items()
            }
            turns = sorted(self._turns.items(), key=lambda each: each[1].due)
        for table, turn in turns:
            if turn.due <= now and self._ready(table):
                self._audit(table, turn)
                return

    def _ready(self, table: TableId) -> bool:
        standing = self._standing(table)
        return (
            standing.running and standing.cycle is not None and not self._broken(table) and self._reachable()
        )

    def _audit(self, table: TableId, turn: _Turn) -> None:
        began, since = self._clock.monotonic(), self._standing(table).since
        with self._lock:
            turn.due = began + self._interval
        found = AuditFindings()

        def look() -> None:
            standing = self._standing(table)
            if not standing.running or standing.since != since or self._broken(table):
                raise Interrupted

        pacing = SharePacing(
            self._clock, self._stop, look, self._crowded, self._cpu_percent, self._process_cpu
        )
        self._events.audit_begun(table)
        result, error = Reconciled(), None
        try:
            result = self._work(turn.plan, pacing, partial(self._found, table, found))
        except Interrupted:
            outcome: Outcome = "interrupted"
        except (Stopped, LeaseHeld):
            raise
        except CdcError as failed:
            if self._stop.is_set():  # what it read was closed under it
                raise Stopped from None
            refused = isinstance(failed, TargetError) and failed.not_allowed
            outcome, error = "refused" if refused else "failed", failed
        except Exception as unexpected:  # noqa: BLE001 - other tables are to be audited all the same
            outcome, error = "failed", _unexpected(table, unexpected)
        else:
            outcome = "different" if result.left else "repaired" if len(found) else "equal"
        now = self._clock.monotonic()
        pause = self._pause(turn, outcome)
        with self._lock:  # a request that came meanwhile stays
            if turn.due != float("-inf"):
                turn.due = now + pause if pause is not None else max(turn.due, now)
            next_seconds = max(0.0, turn.due - now)
        self._events.audited(AuditReport(table, outcome, found, result, now - began, next_seconds, error))

    def _pause(self, turn: _Turn, outcome: Outcome) -> float | None:
        """Until the table's next audit; None: the interval, from when this one began."""
        turn.failures = turn.failures + 1 if outcome == "failed" else 0
        match outcome:
            case "repaired" | "different":
                return min(self._interval, AGAIN_SECONDS)
            case "interrupted":
                return 0.0  # once it runs again
            case "failed":
                return min(self._interval, FIRST_RETRY_SECONDS * 2.0 ** min(turn.failures - 1, 20))
            case _:
                return None

    def _found(
        self, table: TableId, so_far: AuditFindings, comparer: Comparer, span: Span, found: Differences
    ) -> None:
        parts: dict[Kind, Hashes] = {
            "missing": found.missing,
            "extra": found.extra,
            "different": found.different,
        }
        more = {kind: len(keys) for kind, keys in parts.items()}
        more["extra"] += found.more_extra
        so_far.missing += more["missing"]
        so_far.extra += more["extra"]
        so_far.different += more["different"]
        for kind, keys in parts.items():
            room = EXAMPLES - sum(told == kind for told, _ in so_far.examples)
            if room > 0 and len(keys):
                told = _keys(comparer, span, keys[:room], there=kind == "extra")
                so_far.examples += tuple((kind, key) for key in told)
        self._events.audit_found(table, so_far, more)


def _keys(comparer: Comparer, span: Span, numbers: Hashes, *, there: bool) -> list[Key]:
    """The keys of these numbers, as text; of rows of the target if `there`. One that is gone is left out."""

    def read() -> dict[int, Key]:
        found: dict[int, Key] = {}
        rows = comparer.target_rows if there else comparer.source_rows
        with formatter() as connection:
            for batch in rows(span, np.sort(numbers)):
                keys = texts(connection, batch.select(list(comparer.plan.key)))
                shown = zip(*(column.to_pylist() for column in keys.columns), strict=True)
                found |= dict(zip(comparer.key_numbers(batch).tolist(), shown, strict=True))
        return found

    return list(again(read).values())


def _unexpected(table: TableId, error: Exception) -> CdcError:
    wrapped = CdcError(
        "audit",
        table,
        f"unexpected {type(error).__name__}: {error}",
        "This is a defect: report it with the log. The table is replicated all the same",
    )
    wrapped.__cause__ = error
    return wrapped
