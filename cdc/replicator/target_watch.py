"""Are the tables of the target still those that rows were delivered to? Asked now and then, for all together.

Nothing is decided here: a table's loop that hears of a change opens its table again, and judges for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from cdc.change import TableId, TablePlan, Unseen
from cdc.errors import TargetError
from cdc.replicator.ports import Target
from cdc.sighting import Known, Sighting, Verdict, judge, rows_taken_away


class Opened(Enum):
    """What has become of opening a table in the target."""

    NO = "no"
    """It was not tried, or the target is away."""
    YES = "yes"
    GONE = "gone"
    """It is not there, and is waited for."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What a table's loop knows of its table in the target."""

    plan: TablePlan
    known: Known
    delivered: bool
    """Rows were delivered to it."""
    state: Opened
    opened_as: Sighting | None = None
    """What the target said of it when it was opened, before anything was delivered to it then."""


class WatchedLoop(Protocol):
    """The loop of one table."""

    @property
    def watched(self) -> Watched: ...

    def reload(self) -> None: ...


class TargetWatch:
    """The last look at each table. For one thread."""

    def __init__(
        self,
        target: Target,
        unseen: Callable[[TableId, Unseen], None],
        restarted: Callable[[TableId, str], None] | None = None,
    ) -> None:
        """
        Args:
            unseen: remembers that a table is to be compared with the target; StateError if it cannot.
            restarted: is told of each table once another server answers, or the same that was started anew.
        """
        self._target = target
        self._unseen = unseen
        self._restarted = restarted
        self._seen: dict[TableId, Sighting] = {}

    def look(self, loops: Iterable[WatchedLoop]) -> None:
        """Ask the target, and tell the loops whose table is another than before. A target that does not
        answer is asked the next time.

        Raises:
            StateError: it is not remembered that a table is to be compared; it is the next time.
        """
        by_table = {watched.plan.table: (loop, watched) for loop in loops for watched in [loop.watched]}
        try:
            found = self._target.sightings([watched.plan for _, watched in by_table.values()])
        except TargetError:
            return
        for table, (loop, watched) in by_table.items():
            now = found.get(table)
            before = None if now is None else self._before(table, watched, now)
            verdict = judge(watched.known, now, delivered=watched.delivered)
            other = verdict is not Verdict.SAME and watched.state is Opened.YES
            returned = verdict is not Verdict.GONE and watched.state is Opened.GONE
            lost_view = now is not None and not now.view and (before is None or before.view)
            if (other or returned or lost_view) and loop.watched.known == watched.known:
                loop.reload()
            if before is not None and now is not None and verdict is Verdict.SAME and watched.delivered:
                self._compare(table, before, now, lost_view=lost_view)
            if now is None:
                self._seen.pop(table, None)
            else:
                self._seen[table] = now if before is None else now.after(before)

    def _before(self, table: TableId, watched: Watched, now: Sighting) -> Sighting | None:
        """The last look at the table that is there now: else rows that were delivered and taken away between
        its opening and the first look, or between two, would be missed."""
        looks = (self._seen.get(table), watched.opened_as)
        return next(
            (each for each in looks if each and each.is_of_the_same_table_as(now)), self._seen.get(table)
        )

    def _compare(self, table: TableId, before: Sighting, now: Sighting, *, lost_view: bool) -> None:
        if rows_taken_away(before, now):
            self._unseen(table, Unseen("rows were taken away from the table in the target"))
        elif lost_view:  # who dropped it may have put another table in its place within the second of `made`
            self._unseen(table, Unseen("the view of the table in the target was dropped"))
        if self._restarted is None:
            return
        if before.host != now.host:
            self._restarted(table, f"the target is {now.host}, and was {before.host}")
        elif now.uptime < before.uptime:
            self._restarted(table, "the target was started anew")
