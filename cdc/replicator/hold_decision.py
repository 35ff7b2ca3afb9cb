"""What of a batch is delivered now, and what that changes among the rows that wait for their group? [F8]"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from cdc.change import Batch, Completion, FailedRow, TablePlan
from cdc.stored import Holding

GROUP_NUMBER = "__cdc_group"
"""The column that tells the groups of one evaluation apart, numbered from 0; `TablePlan.free_name` of it."""


class GroupRule(Protocol):
    """Evaluates a table's completion condition."""

    def complete(self, rows: pa.Table) -> set[int]:
        """The numbers of the groups that are complete. `rows`: the plan's columns, and last
        `GROUP_NUMBER`.

        Raises:
            CdcError: the condition cannot be evaluated.
        """
        ...

    def close(self) -> None: ...


GroupRules = Callable[[TablePlan, Completion], GroupRule]


@dataclass(frozen=True, slots=True)
class Early:
    """Groups delivered although they are not complete."""

    groups: int
    rows: int
    example: str
    """One of the groups,"""
    reason: str
    """and why it waits no longer."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is held of a table."""

    rows: int = 0
    groups: int = 0
    since: float | None = None
    """When the first row of the oldest group came, seconds since 1970; None: nothing is held."""


@dataclass(frozen=True, slots=True)
class HoldDecision:
    """What is to be delivered, and how that changes what is held."""

    batch: Batch
    holding: Holding = field(default_factory=Holding)
    failed: tuple[FailedRow, ...] = ()
    """Rows that were held and can no longer be delivered as they are."""
    early: Early | None = None
    waiting: Waiting | None = None
    """What is held afterwards; None: that has not changed."""
