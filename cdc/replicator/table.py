"""Keeps one table of the target equal to its source: set up, read past the mark, deliver, wait, again.

Each table runs alone: what halts one leaves the others going. A halted table is set up again after a while,
so that once the cause is mended nothing needs to be restarted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from functools import partial

from cdc.change import NOWHERE, Position, TablePlan, Unseen, schema_version
from cdc.errors import CdcError, HistoryBroken, LeaseHeld, Meaning, TargetError
from cdc.replicator.delivery import Delivery, Stopped
from cdc.replicator.delivery_route import LOOK_SECONDS, DeliveryRoute
from cdc.replicator.earlier_schema_spool import deliver_spool_of_earlier_schema
from cdc.replicator.failed import retry_due
from cdc.replicator.group_hold import GroupHold
from cdc.replicator.lazy_table import LazyTable
from cdc.replicator.pipeline import Pipeline
from cdc.replicator.ports import TableReader, TargetTable
from cdc.replicator.pressure import Pressure
from cdc.replicator.shared_context import SharedContext
from cdc.replicator.spool import Spool
from cdc.replicator.target_watch import Opened, Watched
from cdc.sighting import Known, Sighting, Verdict, judge
from cdc.stored import TableProgress

_READ_ANEW = "it is read from its mark alone, for it is not known up to where its log was delivered"
_STORE_BEHIND = (
    "the target has rows newer than all that the state store knows of: an older copy of it was put back"
)
_TARGET_AHEAD = (
    "the target has rows newer than the log's end: rows were mended, or log and state store put back"
)
LEARNING_SECONDS = 0.5
"""The longest wait for a change while the reader has more to learn of what is delivered."""
AWAY_SECONDS = 0.25
"""The longest wait for a change while the target is away: so soon is what was read stored, and the target's
return seen."""
CROWDED_SECONDS = 0.25
"""The pause in reading while the process holds too much memory, after what was read is delivered."""
BACK_SECONDS = 1.0
"""How often a table that could not be set up looks whether the target is back."""
GONE = (60, 81, 218)
"""ClickHouse's UNKNOWN_TABLE, UNKNOWN_DATABASE and TABLE_IS_DROPPED."""


class TableState(Enum):
    SETUP = "setup"
    SNAPSHOT = "snapshot"
    """Reading what was there before: nothing was caught up with yet in this run."""
    RUNNING = "running"
    PAUSED = "paused"
    RESYNC = "resync"
    """Reading everything again: the columns are not those that it was delivered with."""
    FAILED = "failed"


class DeliverAgain(Exception):
    """The table in the target is not the one that rows were delivered to."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.value)
        self.verdict = verdict


class TableLoop:
    """Replicates one table until told to stop. `run` belongs to one thread."""

    def __init__(self, plan: TablePlan, shared: SharedContext, *, lost: Callable[[LeaseHeld], None]) -> None:
        """`lost` is told when another replicator has taken over: then this one must end."""
        self._plan = plan
        self._shared = shared
        self._source = shared.source
        self._marks = shared.marks
        self._observer = shared.observer
        self._pace = shared.pace
        self._clock = shared.clock
        self._stop = shared.stop
        self._lost = lost
        self.pressure = Pressure(shared.clock)
        self._new_plan: TablePlan | None = None
        self._again = False
        self._delivery: Delivery | None = None
        self.caught_up_to: Position | None = None
        """The newest position that the table was read to with all of it delivered, in this run."""
        self._setups_failed = 0
        self._changed: Verdict | None = None
        """Why everything is to be delivered again, until it is stored that it is."""
        self._known, self._opened = Known({}), Opened.NO
        self._opened_as: Sighting | None = None
        self._rows_before = 0
        self._clock_checked = False
        """The target was asked, in this run, whether it has versions that are still to come."""
        self.state = TableState.SETUP

    def __repr__(self) -> str:
        return f"TableLoop({self._plan.table} → {self._plan.target}, {self.state.value})"

    def replan(self, plan: TablePlan) -> None:
        """Go on by this plan, once what was read is delivered; from any thread."""
        self._new_plan = plan

    def is_past(self, position: Position) -> bool:
        """Whether all is delivered that was committed up to `position`. Thread safe."""
        reached = self.caught_up_to
        return reached is not None and reached >= position

    def waiting_seconds(self) -> float | None:
        """For how long the target has not taken what it was sent; None: it was sent nothing. Thread safe."""
        delivery = self._delivery
        since = None if delivery is None else delivery.sending_since
        return None if since is None else max(0.0, self._clock.monotonic() - since)

    def reload(self) -> None:
        """Go on from what is stored, once what was read is delivered; from any thread."""
        self._again = True
        self._source.nudge()

    @property
    def watched(self) -> Watched:
        """What is known of the table in the target; from any thread."""
        delivery = self._delivery
        rows = self._rows_before + (0 if delivery is None else delivery.delivered_rows)
        return Watched(self._plan, self._known, rows > 0, self._opened, self._opened_as)

    def run(self) -> None:
        """Replicate until the stop event is set; no error leaves this method."""
        while not self._stop.is_set():
            try:
                self._replicate()
            except Stopped:
                return
            except LeaseHeld as error:
                self._enter(TableState.FAILED, error)
                self._lost(error)
            except DeliverAgain as found:
                self._changed = found.verdict
            except CdcError as error:
                if self._setups_failed or not (isinstance(error, TargetError) and error.code in GONE):
                    self._halt(error)
                else:  # opening it says what is to be done, or makes it anew
                    self._setups_failed += 1
            except Exception as error:  # noqa: BLE001 - one table must not take the others along
                self._halt(_unexpected(self._plan, error))

    def _replicate(self) -> None:
        self._opened = Opened.NO
        self._enter(TableState.SETUP)
        self._again = False
        if self._new_plan is not None:
            self._plan, self._new_plan = self._new_plan, None
        elif self._shared.plan_again is not None and self._setups_failed:
            self._plan = self._shared.plan_again(self._plan)
        self._marks.describe(self._plan)
        version, spool = schema_version(self._plan), self._spool()
        if spool.older():
            try:
                deliver_spool_of_earlier_schema(
                    spool, self._shared, self.pressure, self._marks.load(self._plan.table).resets
                )
            finally:
                spool.close()
            spool = self._spool()
        try:
            first = TableState.SNAPSHOT
            if self._changed is not None:
                self.caught_up_to = None
                if self._changed is Verdict.ANOTHER:  # it may hold rows that the source has not any more
                    self._note(Unseen(f"the table in the target {self._changed.value}"))
                self._marks.restart(self._plan.table)
                self._observer.target_changed(self._plan.table, self._changed.value)
                self._changed, first = None, TableState.RESYNC
            progress = self._marks.load(self._plan.table)
            self._known = Known.from_json(progress.delivered_to)
            self._rows_before, self._delivery = progress.rows_there, None
            # A column that was added has values in rows that were delivered without it.
            altered = progress.schema_version not in (None, version)
            target = self._target(spool, progress, altered=altered)
            if altered:  # and the target takes it
                self._marks.restart(self._plan.table)
                self._marks.deliver_to(self._plan.table, self._known.to_json())
                progress, first = self._marks.load(self._plan.table), TableState.RESYNC
            try:
                self._deliver(target, spool, progress, first)
            except HistoryBroken as error:
                self._enter(TableState.RESYNC, error)
                self._note(Unseen(f"{error.problem}; all rows are read anew and compared"))
                self._marks.restart(self._plan.table)
        finally:
            spool.close()

    def _spool(self) -> Spool:
        shared = self._shared
        return Spool(self._plan, self._marks, self._observer, shared.room, self._pace.limits, self._clock)

    def _target(self, spool: Spool, progress: TableProgress, *, altered: bool) -> LazyTable:
        """The table in the target; one of which rows were delivered before may be opened when it is back."""

        def open_table() -> TargetTable:
            return self._open(progress, progress.resets + altered)

        try:
            return LazyTable(open_table, open_table())
        except TargetError as error:
            known = progress.position is not None and progress.position.era and not altered
            if error.meaning is not Meaning.RETRY or not (spool.enabled and known):
                raise
            return LazyTable(open_table, error=error)

    def _open(self, progress: TableProgress, generation: int) -> TargetTable:
        """Open the table, if it is the one that rows were delivered to, or none were.

        Raises:
            DeliverAgain: it is another.
            TargetError, StateError: it cannot be opened, or not be remembered.
        """
        target, plan = self._shared.target, self._plan
        known = Known.from_json(progress.delivered_to)
        found = target.sightings([plan])[plan.table]
        verdict = judge(known, found, delivered=progress.rows_there > 0)
        self._opened = Opened.GONE if found is None else Opened.NO
        table = target.open(plan, generation)  # makes it, or says how
        try:
            some = progress.mark is not None or progress.rows_there > 0
            if verdict.deliver_again or (verdict is Verdict.GONE and some):
                raise DeliverAgain(verdict)
            # Opening may have made or altered it.
            now = target.sightings([plan])[plan.table]
            self._opened_as = now
            if now is not None:
                self._known = known.with_(now)
            if self._known != known:
                self._marks.deliver_to(plan.table, self._known.to_json())
            if progress.position is not None and progress.position.era:
                self._check_clock(progress.position)
        except BaseException:
            table.close()
            raise
        self._opened = Opened.YES
        return table

    def _check_clock(self, delivered: Position) -> None:
        """See, once in a run, that what is read from now on outranks all that the target has. A state store
        that was put back, maybe with the whole machine, does not know of the versions sent since.

        Raises:
            TargetError, SourceError, StateError: that could not be found out, or not be seen to.
        """
        if self._clock_checked:
            return
        try:
            newest = self._shared.target.newest_version(self._plan)
        except TargetError as error:
            if error.meaning is Meaning.RETRY:
                raise
            newest = None  # it may not be read: there is no telling
        now = self._source.position()
        if newest is not None and newest > now.as_version():
            self._note(Unseen(_STORE_BEHIND))  # first: once they are outranked, nothing tells
            self._source.outrank(newest)
        elif (
            newest is not None
            and delivered.iteration == now.iteration  # the same log: what was sent of it is before its end
            and newest > replace(now, era=delivered.era).as_version()
        ):
            self._note(Unseen(_TARGET_AHEAD))
        self._clock_checked = True

    def _deliver(self, target: LazyTable, spool: Spool, progress: TableProgress, first: TableState) -> None:
        """Follow the table from where it is delivered to, or from the end of its spool."""
        delivery = Delivery(
            target,
            self._shared,
            self.pressure,
            schema_version=schema_version(self._plan),
            failed_rows=progress.failed_rows,
        )
        self._delivery = delivery
        stored = spool.position or progress.position
        if stored is None and (progress.mark is not None or progress.batches or progress.resets):
            # After the reader before this one has ended: it may have missed deletions of its last moments.
            self._note(Unseen(_READ_ANEW))
        position = self._place(stored)
        reader = self._source.open(self._plan, position, progress.digests)
        hold = self._hold()
        try:
            with (
                Pipeline(delivery, str(self._plan.table)) as pipeline,
                DeliveryRoute(
                    self._plan, self._shared, reader, pipeline, delivery, hold, spool, target
                ) as route,
            ):
                route.mark = spool.mark or progress.mark
                self._enter(first)
                if target.error is not None:  # after the state, so that it is still shown
                    self._observer.retried(self._plan.table, target.error, 1, 0.0)
                self._follow(reader, route, pipeline, delivery, hold)
        finally:
            self._delivery = None
            hold.close()
            reader.close()
            target.close()

    def _place(self, stored: Position | None) -> Position | None:
        """From where to follow the table. Of one that the store does not know the target may have rows: then
        what is read from now on is to outrank them, and nobody knows what they are."""
        if stored is not None and stored.era:
            return stored
        try:
            version = self._shared.target.newest_version(self._plan)
        except TargetError as error:
            if not error.not_allowed:
                raise
            return NOWHERE  # a counter that was lost begins past it; see `first_era`
        if version is None:
            return stored
        self._source.outrank(version)
        return stored or NOWHERE

    def _hold(self) -> GroupHold:
        completion, rules = self._plan.completion, self._shared.rules
        rule = None if completion is None or rules is None else rules(self._plan, completion)
        held = self._marks.held(self._plan.table)
        hold = GroupHold(self._plan, schema_version(self._plan), rule, held, self._clock)
        if hold.waiting.rows or completion is not None:
            self._observer.held(self._plan.table, hold.waiting)
        return hold

    def _follow(
        self,
        reader: TableReader,
        route: DeliveryRoute,
        pipeline: Pipeline,
        delivery: Delivery,
        hold: GroupHold,
    ) -> None:
        retry_at, hastened = self._clock.monotonic(), False
        position, read_to = self._source.position(), None
        while not (self._stop.is_set() or self._new_plan is not None or self._again):
            started, cpu = self._clock.monotonic(), self._cpu(pipeline)
            # The position is from before the read: a change during it ends the wait below.
            if position != read_to or not route.busy:
                if not self._read(reader, route):
                    return
                read_to = position
            if not route.busy:
                if (due := hold.due()) is not None:
                    route.emit(due)
                self._setups_failed = 0
                self.caught_up_to = read_to
                self._enter(TableState.RUNNING)
                self._observer.cycle(self._plan.table, 0)
                many = delivery.failed_rows > self._pace.retry_at_once_rows
                if many and not hastened:
                    self._marks.hasten(self._plan.table)
                    retry_at = started
                hastened = many
                if started >= retry_at:
                    route.run(partial(self._retry, delivery))
                    retry_at = started + self._pace.retry_failed_seconds
            self._pause(route, started, self._cpu(pipeline) - cpu)
            if route.busy:
                route.tend(0.0)
                position = self._source.wait(position, AWAY_SECONDS if route.away else 0.0)
                continue
            longest = min(self._pace.idle_seconds, self._pace.retry_failed_seconds, hold.due_in())
            if reader.learning:
                longest = min(longest, LEARNING_SECONDS)
            position = self._source.wait(position, longest)

    def _read(self, reader: TableReader, route: DeliveryRoute) -> bool:
        """Have everything delivered or made durable that can be read now; False where it was not read to the
        end, for the table is to be set up again."""
        for batch in reader.read(route.mark, self._pace.limits):
            if self._stop.is_set():
                raise Stopped
            if self._again:
                return False
            if self._shared.limits.crowded:
                route.settle()
                self._rest(CROWDED_SECONDS)
            self._note(reader.unseen_before_send())
            self._remember(reader.digests_before_send(), route)
            route.take(batch)
        self._note(reader.unseen_before_send())
        route.settle()
        self._remember(reader.digests_after_acknowledgement(), route, reader.position)
        return True

    def _cpu(self, pipeline: Pipeline) -> float:
        """The processor time of both threads of this table, in seconds: for differences.

        What DuckDB or an embedded target do in threads of their own is not in it.
        """
        return self._clock.thread_cpu() + pipeline.sending_cpu_seconds

    def _pause(self, route: DeliveryRoute, started: float, cpu_seconds: float) -> None:
        """Let the time between two reads pass; what is spooled is delivered meanwhile."""
        gap = self._pace.gap_seconds
        if not route.away:
            gap = self.pressure.gap(self._pace.gap(cpu_seconds, self._clock.monotonic() - started))
        while route.busy and (left := started + gap - self._clock.monotonic()) > 0:
            route.tend(min(left, LOOK_SECONDS))
            if self._stop.is_set():
                raise Stopped
        self._rest(started + gap - self._clock.monotonic())

    def _retry(self, delivery: Delivery) -> None:
        delivery.failed_rows -= retry_due(self._plan, self._marks, delivery)

    def _remember(
        self, digests: bytes | None, route: DeliveryRoute, position: Position | None = None
    ) -> None:
        if digests is not None:
            route.flush()  # they say that these rows are in the target, or will be
            self._marks.remember(self._plan.table, digests, position)

    def _note(self, unseen: Unseen | None) -> None:
        """Nothing is sent, and no place stored, past changes that went unseen before that is remembered."""
        if unseen is not None:
            if unseen.urgent:
                self._marks.note_unseen(self._plan.table, unseen.reason)
            self._observer.unseen_noted(self._plan.table, unseen)

    def _halt(self, error: CdcError) -> None:
        """Show why the table halted, and rest before it is set up again."""
        self._setups_failed += 1
        if error.meaning is Meaning.RETRY:
            delay = self._shared.backoff.delay(self._setups_failed, self._shared.rng)
            self._enter(TableState.PAUSED, error)
            self._observer.retried(self._plan.table, error, self._setups_failed, delay)
        else:
            delay = self._pace.halted_seconds
            self._enter(TableState.FAILED, error)
        self._sit_out(delay, error)

    def _sit_out(self, seconds: float, error: CdcError) -> None:
        """Wait; for a target that gave no answer no longer than until it answers again."""
        silent = isinstance(error, TargetError) and error.meaning is Meaning.RETRY and error.code is None
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            if self._clock.wait(self._stop, min(left, BACK_SECONDS)):
                return
            if self._again or (silent and self._shared.probe.answers()):
                return

    def _rest(self, seconds: float) -> None:
        if seconds > 0 and self._clock.wait(self._stop, seconds):
            raise Stopped

    def _enter(self, state: TableState, error: CdcError | None = None) -> None:
        if state is not self.state or error is not None:
            self.state = state
            self._observer.state(self._plan.table, state.value, error)


def _unexpected(plan: TablePlan, error: Exception) -> CdcError:
    wrapped = CdcError(
        "replicate",
        plan.table,
        f"unexpected {type(error).__name__}: {error}",
        "This is a defect: report it with the log. The table halts; its mark has not moved past the error",
    )
    wrapped.__cause__ = error
    return wrapped
