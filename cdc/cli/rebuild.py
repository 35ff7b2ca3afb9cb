"""`cdc watermark rebuild`: a lost store, set up again from how far the target's tables reach. [R3]"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cdc.change import Mark, TablePlan
from cdc.cli import context
from cdc.cli.saying import say
from cdc.cli.watermark import Yes, confirm

if TYPE_CHECKING:
    from cdc.target import ClickHouseTarget


def rebuild(ctx: typer.Context, yes: Yes = False) -> None:
    """Set every mark to the greatest watermark in the target; a damaged store is kept aside.

    Rows that committed late, further behind than the overlap, are not sent then: `cdc verify` finds them.
    """
    from cdc.app.wiring import plans_of, source_of, target_of
    from cdc.clock import SystemClock
    from cdc.watermark import rebuild as rebuild_store

    settings = context.settings(ctx)
    now = SystemClock().wall()
    with source_of(settings) as source, target_of(settings) as target:
        identity = source.identity
        plans = plans_of(settings, source).plans
        marks = {plan.table: _reached(target, plan, now + settings.sync.max_skew_sec) for plan in plans}
    for plan in plans:
        mark = marks[plan.table]
        nothing = "rows may wait for their group" if plan.completion is not None else "nothing in the target"
        there = f"{nothing}: no mark, every row is sent" if mark is None else mark.watermark
        say(f"{plan.table}: {there}")
    if not yes:
        confirm("Set these marks, in place of those stored?")
    rebuilt = rebuild_store(
        settings.state.directory, identity, marks, failed_table=settings.error_handling.failed_sync_table
    )
    for path in rebuilt.aside:
        say(f"kept aside: {path}")
    if rebuilt.failed_rows:
        say(f"{rebuilt.failed_rows:,} failed rows were taken over from the damaged store")
    say("done; rows that committed later than the overlap reaches back are found by 'cdc verify'")


def _reached(target: ClickHouseTarget, plan: TablePlan, wall_seconds: float) -> Mark | None:
    """How far the target has the table; None where it has nothing, or no such table yet.

    None also where rows wait for their group: those held in the lost store lie before the greatest watermark.
    A row stamped further ahead than `wall_seconds` does not count: past it, correct rows would be skipped.
    """
    from cdc.source.table.marking import Marking
    from cdc.target.schema import SchemaDifferenceKind
    from cdc.watermark import mark_type

    if plan.completion is not None or any(
        each.kind is SchemaDifferenceKind.MISSING_TABLE for each in target.diff(plan)
    ):
        return None
    value = target.maximum(plan, Marking(plan, 0.0).latest(wall_seconds))
    return None if value is None else Mark(mark_type(plan.watermark.type).canonical(value), ())
