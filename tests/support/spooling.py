"""A replicator with a spool, in memory: its target goes away and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from cdc.change import BatchLimits, TablePlan
from cdc.replicator.disk_budget import DiskBudget
from cdc.replicator.hold_decision import GROUP_NUMBER
from cdc.replicator.pace import Pace
from cdc.replicator.parts import Hooks, Policies, Ports
from cdc.replicator.retry import Backoff
from cdc.replicator.runner import Replicator
from tests.support.changes import ChangingTarget, LoggedSource, QuickClock
from tests.support.replication import PLAN, MemoryMarks, Recorder, seqs_of
from tests.support.waiting import wait_until

PACE = Pace(limits=BatchLimits(rows=50, bytes=1 << 20), linger_ms=1.0, halted_seconds=1.0)
BACKOFF = Backoff(first_seconds=0.5, steps_seconds=(1.0,))


class EvenKeys:
    """A group is complete if its number is even."""

    def complete(self, rows: pa.Table) -> set[int]:
        found = zip(rows.column(GROUP_NUMBER).to_pylist(), rows.column("id").to_pylist(), strict=True)
        return {number for number, id_ in found if id_ % 2 == 0}

    def close(self) -> None: ...


@dataclass
class Rig:
    source: LoggedSource = field(default_factory=LoggedSource)
    target: ChangingTarget = field(default_factory=ChangingTarget)
    marks: MemoryMarks = field(default_factory=MemoryMarks)
    observer: Recorder = field(default_factory=Recorder)
    room: DiskBudget | None = field(default_factory=lambda: DiskBudget(1 << 20))
    plan: TablePlan = PLAN
    copied: list[int] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Replicator]:
        self.source.awake()
        replicator = Replicator(
            Ports(self.source, self.target, self.marks, self.observer),
            Policies(pace=PACE, backoff=BACKOFF, room=self.room),
            Hooks(
                rules=lambda plan, completion: EvenKeys(),
                copied=lambda batch: self.copied.extend(seqs_of(batch)),
            ),
            clock=QuickClock(),
        )
        replicator.add(self.plan)
        try:
            yield replicator
        finally:
            replicator.stop()
            assert replicator.join(5.0)

    def insert(self, *keys: int) -> None:
        self.source.commit(*((key, False) for key in keys))

    def wait_read(self) -> None:
        """Until the log is read to its end."""
        wait_until(lambda: self.source.seen == self.source.end, "the log to be read", 10.0)

    def wait_spooled(self) -> None:
        """Until all that was committed is in the store."""
        wait_until(self._spooled_to_the_end, "all to be spooled", 10.0)

    def wait_delivered(self) -> None:
        wait_until(lambda: len(self.delivered()) == self.source.end, "all to be delivered", 20.0)
        wait_until(lambda: not self.marks.entries, "the spool to be empty", 10.0)

    def delivered(self) -> set[int]:
        return {each.seq for each in self.target.changes}

    def in_order(self) -> bool:
        """Whether the mark never went back."""
        marks = [int(each.mark.watermark) for each in self.marks.decisions if each.mark is not None]
        return marks == sorted(marks)

    def outage(self) -> None:
        """The target is away, and rows are spooled for it."""
        self.target.away = True
        self.insert(1)
        wait_until(lambda: self.marks.entries, "the first row to be spooled", 10.0)

    def _spooled_to_the_end(self) -> bool:
        spooled = self.marks.spooled(PLAN.table)
        return spooled.mark is not None and int(spooled.mark.watermark) == self.source.end
