"""What every table of one replicator shares."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cdc.change import Batch, TablePlan
from cdc.clock import Clock
from cdc.replicator.breaker import Breaker
from cdc.replicator.disk_budget import DiskBudget
from cdc.replicator.hold_decision import GroupRules
from cdc.replicator.limits import ReplicatorLimits
from cdc.replicator.pace import Pace
from cdc.replicator.ports import Marks, Observer, Source, Target
from cdc.replicator.retry import Backoff
from cdc.replicator.target_probe import TargetProbe


@dataclass(frozen=True, slots=True)
class SharedContext:
    """The ports, the policies and the time. `stop` ends every wait."""

    source: Source
    target: Target
    marks: Marks
    observer: Observer
    pace: Pace
    backoff: Backoff
    breaker: Breaker
    probe: TargetProbe
    limits: ReplicatorLimits
    clock: Clock
    stop: threading.Event
    rng: random.Random
    plan_again: Callable[[TablePlan], TablePlan] | None = None
    rules: GroupRules | None = None
    """Makes what evaluates a table's completion condition; None: no plan has one."""
    copied: Callable[[Batch], None] | None = None
    """Is offered what is spooled, at once; None: nobody keeps a copy."""
    room: DiskBudget | None = None
    """What all spools may take; None: reading waits while the target is away."""
