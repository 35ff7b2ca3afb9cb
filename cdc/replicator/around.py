"""What every table of one replicator shares."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cdc.change import Batch, TablePlan
from cdc.clock import Clock
from cdc.replicator.admitted import Rules
from cdc.replicator.breaker import Breaker
from cdc.replicator.limits import Limits
from cdc.replicator.pace import Pace
from cdc.replicator.ports import Marks, Observer, Source, Target
from cdc.replicator.reach import Reach
from cdc.replicator.retry import Backoff
from cdc.replicator.room import Room


@dataclass(frozen=True, slots=True)
class Around:
    """The ports, the policies and the time. `stop` ends every wait."""

    source: Source
    target: Target
    marks: Marks
    observer: Observer
    pace: Pace
    backoff: Backoff
    breaker: Breaker
    reach: Reach
    limits: Limits
    clock: Clock
    stop: threading.Event
    rng: random.Random
    plan_again: Callable[[TablePlan], TablePlan] | None = None
    rules: Rules | None = None
    """Makes what evaluates a table's completion condition; None: no plan has one."""
    copied: Callable[[Batch], None] | None = None
    """Is offered what is spooled, at once; None: nobody keeps a copy."""
    room: Room | None = None
    """What all spools may take; None: reading waits while the target is away."""
