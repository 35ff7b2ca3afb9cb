"""What is a replicator made of? The ports it works through, the policies it keeps to, the hooks it calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cdc.change import Batch, TableId, TablePlan
from cdc.replicator.breaker import Breaker
from cdc.replicator.disk_budget import DiskBudget
from cdc.replicator.hold_decision import GroupRules
from cdc.replicator.limits import ReplicatorLimits
from cdc.replicator.pace import Pace
from cdc.replicator.ports import Marks, Observer, Source, Target
from cdc.replicator.retry import Backoff


@dataclass(frozen=True, slots=True)
class Ports:
    """What a replicator reads, writes to, remembers in and reports to. Whoever opened them closes them."""

    source: Source
    target: Target
    marks: Marks
    observer: Observer


@dataclass(frozen=True, slots=True)
class Policies:
    """How often, how much and how persistently a replicator works. All tables share them."""

    pace: Pace = field(default_factory=Pace)
    backoff: Backoff = field(default_factory=Backoff)
    breaker: Breaker | None = None
    """Stops asking a target that fails; None: one with the default thresholds."""
    limits: ReplicatorLimits | None = None
    """Bounds rates and memory; None: nothing is bounded."""
    room: DiskBudget | None = None
    """What all spools may take together; None: reading waits while the target is away."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a replicator calls for work that is not its own."""

    plan_again: Callable[[TablePlan], TablePlan] | None = None
    """Gives the plan of an altered table as it is wanted now; None: tables are never planned again."""
    rules: GroupRules | None = None
    """Makes what evaluates a table's completion condition; None: no plan has one."""
    copied: Callable[[Batch], None] | None = None
    """Is offered what is spooled, at once; None: nobody keeps a copy."""
    target_restarted: Callable[[TableId, str], None] | None = None
    """Is told of each table once the target is another server, or was started anew: it may hold an earlier
    state; None: nobody compares."""
