"""Is the log of a table followed, and if not, why not and until when? One value, and which may follow which.

A reader begins in SNAPSHOT: nothing was followed yet. It is TAILING while a tail stands beside the snapshots,
and LOST while there is none: snapshots are read until a tail can be started again, at once where what
happened is over, else after the writer's next checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

from cdc.change import Position
from cdc.source.tail.tail import Tail


class Phase(Enum):
    SNAPSHOT = "snapshot"
    TAILING = "tailing"
    LOST = "lost"


class Step(Enum):
    """What may happen to a reader."""

    FOLLOWED = "followed"
    """A tail was put at the log."""
    CHECKPOINT = "checkpoint"
    """The tail went over a checkpoint."""
    READ = "read"
    """The snapshot that a new tail or a checkpoint asks for is read from now on."""
    LOST = "lost"
    """The log cannot be followed."""


NEXT: Mapping[tuple[Phase, Step], Phase] = MappingProxyType(
    {
        (Phase.SNAPSHOT, Step.FOLLOWED): Phase.TAILING,
        (Phase.SNAPSHOT, Step.LOST): Phase.LOST,
        (Phase.TAILING, Step.CHECKPOINT): Phase.TAILING,
        (Phase.TAILING, Step.READ): Phase.TAILING,
        (Phase.TAILING, Step.LOST): Phase.LOST,
        (Phase.LOST, Step.FOLLOWED): Phase.TAILING,
        (Phase.LOST, Step.LOST): Phase.LOST,
    }
)
"""The phase after each step that a phase allows."""


@dataclass(frozen=True, slots=True)
class Following:
    """How a reader stands to the log of its table."""

    phase: Phase = Phase.SNAPSHOT
    tail: Tail | None = None
    """While TAILING."""
    due: bool = True
    """A snapshot is to be read before the tail goes on alone."""
    reason: str = ""
    """Why it is LOST."""
    refused_in: int | None = None
    """The checkpoint whose log cannot be followed at all; None: a tail may be started at once."""
    told: tuple[Position, float] | None = None
    """When it was said last that changes go unseen meanwhile: for commits up to there, and by the clock."""

    def __repr__(self) -> str:
        return f"{self.phase.value}" + (f": {self.reason}" if self.reason else "")

    def followed(self, tail: Tail) -> Following:
        """`tail` stands at the log."""
        return Following(self._after(Step.FOLLOWED), tail)

    def checkpointed(self) -> Following:
        """The tail went over a checkpoint, which may hold what the log did not show."""
        return replace(self, phase=self._after(Step.CHECKPOINT), due=True)

    def read(self) -> Following:
        """The snapshot that is due is read from now on."""
        return replace(self, phase=self._after(Step.READ), due=False)

    def lost(self, reason: str, refused_in: int | None) -> Following:
        """There is no tail any more, or still none."""
        return Following(self._after(Step.LOST), reason=reason, refused_in=refused_in, told=self.told)

    def said(self, position: Position, now: float) -> Following:
        """It was said that changes up to `position` may go unseen."""
        return replace(self, told=(position, now))

    def _after(self, step: Step) -> Phase:
        """Raises:
        ValueError: the phase does not allow it, which is a defect.
        """
        phase = NEXT.get((self.phase, step))
        if phase is None:
            raise ValueError(f"a reader that is {self.phase.value} cannot be {step.value}")
        return phase
