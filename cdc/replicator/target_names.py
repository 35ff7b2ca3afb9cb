"""What is a table called in the target, and which tables would be written under a name that another one has?

A table takes two names there: its own, and that of the view of its current rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from cdc.change import TableId, TablePlan


def default_target(table: TableId) -> str:
    """The name of a table that the configuration gives none."""
    return table.name if table.schema == "main" else f"{table.schema}_{table.name}"


def collisions_of_listed(plans: Iterable[TablePlan]) -> dict[TableId, str]:
    """The tables that would take a name which one before them has, and what there is to say of it."""
    taken: dict[str, str] = {}
    found = {}
    for plan in plans:
        if (problem := _take(plan, _names(plan.target), taken)) is not None:
            found[plan.table] = problem
    return found


def collisions_of_unlisted(
    plans: Sequence[TablePlan], before: set[tuple[str, str]], there: Collection[tuple[str, str]]
) -> dict[TableId, str]:
    """The same of tables that the configuration does not list: those replicated `before` come first.

    Names that differ in case alone collide too: some servers keep them in files whose names have no case. And
    a name that was made for a table that is gone stays that table's, with its rows.

    Args:
        before: schema and name in lower case, as for `there`.
        there: the tables that the source has now.
    """
    taken: dict[str, str] = {}
    for schema, name in before.difference(there):
        gone = TableId(schema, name)
        names = _names(default_target(gone).lower())
        taken |= dict.fromkeys(names, f"{gone}, which is gone from the source")
    found = {}
    for plan in sorted(plans, key=lambda plan: plan.table.folded not in before):
        if (problem := _take(plan, _names(plan.target.lower()), taken)) is not None:
            found[plan.table] = problem
    return found


def _take(plan: TablePlan, names: Collection[str], taken: dict[str, str]) -> str | None:
    """Note the names as the plan's; what there is to say if one is taken."""
    clash = next((name for name in names if name in taken), None)
    if clash is not None:
        return f"{clash!r} would also be written for {taken[clash]}"
    taken |= dict.fromkeys(names, str(plan.table))
    return None


def _names(target: str) -> tuple[str, str]:
    return target, f"{target}_current"
