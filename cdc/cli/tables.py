"""Which of the replicated tables does a command mean?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from cdc.change import TableId, TablePlan
from cdc.cli.watermark import table_id
from cdc.errors import ConfigError
from cdc.replicator.plan import Resolution

Tables = Annotated[
    list[TableId] | None,
    typer.Argument(metavar="[TABLE...]", parser=table_id, help="All replicated tables if not given."),
]


def chosen_plans(resolution: Resolution, names: Sequence[TableId] | None) -> tuple[TablePlan, ...]:
    """The plans of these tables, in this order; of all where none is named. Case is as DuckDB has it: none.

    Raises:
        ConfigError: a table is not replicated, and why; or no table is.
    """
    if not names:
        if not resolution.plans:
            why = "; ".join(f"{left.table}: {left.reason}" for left in resolution.left_out)
            raise ConfigError("find", "a replicated table", why or "there is none", "Configure [[tables]]")
        return resolution.plans
    plans = {plan.table.folded: plan for plan in resolution.plans}
    reasons = {left.table.folded: left.reason for left in resolution.left_out}
    for name in names:
        if name.folded not in plans:
            problem = reasons.get(name.folded, "the source has no such table")
            known = ", ".join(str(plan.table) for plan in resolution.plans) or "none"
            raise ConfigError("find", name, f"it is not replicated: {problem}", f"Replicated are: {known}")
    return tuple(plans[name.folded] for name in names)
