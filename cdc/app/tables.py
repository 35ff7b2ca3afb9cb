"""Which tables does a running replication have, and which are new or altered?"""

from __future__ import annotations

import structlog

from cdc.app.opening import Opened
from cdc.app.wiring import plans_of
from cdc.change import Position, TableId, TablePlan
from cdc.errors import CdcError, Meaning, SourceReplaced
from cdc.observe.record import FailedCount
from cdc.replicator.runner import Replicator


class Tables:
    """Adds the source's tables to the replicator as they appear, and tells it of those that were altered."""

    def __init__(self, opened: Opened, replicator: Replicator) -> None:
        self._settings = opened.settings
        self._source = opened.source
        self._store = opened.store
        self._marks = opened.marks
        self._observer = opened.observer
        self._replicator = replicator
        self._looked_at: Position | None = None
        self._tails_lost = 0
        self._complete = False
        self.found: dict[TableId, TablePlan] = {}

    def look(self) -> None:
        """Add what is new. The catalog is read again only after a checkpoint, or while a table is missing, or
        when a log could no longer be followed.

        Raises:
            SourceReplaced: another database is at the path.
            CdcError: at the first look only; a later one is tried again.
        """
        try:
            position, tails_lost = self._source.position(), self._observer.tails_lost
            seen = self._looked_at is not None and (
                position == self._looked_at
                or (self._complete and tails_lost == self._tails_lost and position.era == self._looked_at.era)
            )
            if not seen:
                self._add()
                self._looked_at, self._tails_lost = position, tails_lost
        except SourceReplaced:
            raise
        except CdcError as error:
            if error.meaning is not Meaning.RETRY and not self.found:
                raise
            structlog.get_logger("cdc.run").warning("tables not looked for", error=str(error))

    def _add(self) -> None:
        resolution = plans_of(self._settings, self._source, strict=False, store=self._store)
        new = [plan for plan in resolution.plans if plan.table not in self.found]
        self._observer.begin(
            new,
            resolution.left_out,
            {plan.table: self._marks.load(plan.table) for plan in new},
            breaker=lambda: self._replicator.breaker.state.value,
            failed_rows=self._failed_rows,
            waiting=self._replicator.waiting,
        )
        for plan in resolution.plans:
            known = self.found.get(plan.table)
            self.found[plan.table] = plan
            if known is None:
                self._replicator.add(plan)
            elif plan != known:
                self._replicator.replan(plan)
        self._complete = bool(self.found) and not any(table.listed for table in resolution.left_out)

    def _failed_rows(self) -> dict[TableId, FailedCount]:
        source = self._source.identity
        attempts = self._store.most_attempts(source)
        return {
            each.table: FailedCount(each.failed_rows, attempts.get(each.table, 0))
            for each in self._store.tables()
            if each.source == source
        }
