"""`cdc schema`: which tables does ClickHouse need, how do they differ, and what mends them? [R10]"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cdc.change import TableId, TablePlan
from cdc.cli import context
from cdc.cli.saying import say
from cdc.cli.tables import Tables, chosen_plans
from cdc.cli.watermark import Yes, confirm
from cdc.errors import ExitCode

if TYPE_CHECKING:
    from cdc.target import ClickHouseTarget, Difference

AsJson = Annotated[bool, typer.Option("--json", help="As one JSON object.")]


def register(app: typer.Typer) -> None:
    commands = typer.Typer(no_args_is_help=True, help="Show, compare or make the tables in ClickHouse.")
    commands.command("show")(show)
    commands.command("diff")(diff)
    commands.command("apply")(apply)
    commands.command("grants")(grants)
    app.add_typer(commands, name="schema")


def show(ctx: typer.Context, names: Tables = None, as_json: AsJson = False) -> None:
    """Print the statements that make the tables where there is nothing yet."""
    with _opened(ctx, names) as (target, plans):
        statements = {plan.table: target.ddl(plan) for plan in plans}
    _print_statements(statements, as_json)


def diff(ctx: typer.Context, names: Tables = None, as_json: AsJson = False) -> None:
    """Compare the tables with what is needed. Exit code 7: they differ."""
    with _opened(ctx, names) as (target, plans):
        found = {plan.table: target.diff(plan) for plan in plans}
        database = target.database
    if as_json:
        tables = [
            {"table": str(name), "differences": [*map(_document, each)]} for name, each in found.items()
        ]
        say(json.dumps({"database": database, "equal": not any(found.values()), "tables": tables}, indent=2))
    else:
        for name, differences in found.items():
            say(f"{name}: " + ("as needed" if not differences else ""))
            for difference in differences:
                _print_difference(difference)
        if any(difference.statements for each in found.values() for difference in each):
            say("\nTo run these statements: cdc schema apply")
    raise typer.Exit(ExitCode.DIFFERENT.value if any(found.values()) else ExitCode.OK.value)


def apply(
    ctx: typer.Context,
    names: Tables = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the statements.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make or mend the tables. What ClickHouse cannot change is refused before anything is run."""
    with _opened(ctx, names) as (target, plans):
        planned = {plan.table: _statements(target.diff(plan)) for plan in plans}
        if dry_run:
            _print_statements(planned, as_json)
            return
        if any(planned.values()) and not yes:
            _print_statements(planned, as_json=False)
            confirm("Run these statements?")
        done = {plan.table: target.apply(plan) for plan in plans}
    if as_json:
        _print_statements(done, as_json)
        return
    for name, statements in done.items():
        count = len(statements)
        say(f"{name}: " + (f"{count} statement{'s' * (count != 1)} run" if count else "as needed already"))


def grants(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(help="The user the replicator connects as.")],
    names: Tables = None,
    reading: Annotated[
        bool, typer.Option("--select", help="Reading too: for 'cdc verify', and for [sync] reconcile.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the statements that give a user what the replicator needs, and no more. [S4]"""
    if not user:
        raise typer.BadParameter("a user has a name")
    with _opened(ctx, names) as (target, plans):
        statements = {plan.table: target.grants(plan, user, reading=reading) for plan in plans}
    _print_statements(statements, as_json)


@contextmanager
def _opened(ctx: typer.Context, names: Any) -> Iterator[tuple[ClickHouseTarget, tuple[TablePlan, ...]]]:
    """The target, and the plans of the tables meant."""
    from cdc.app.wiring import plans_of, source_of, target_of

    settings = context.settings(ctx)
    with source_of(settings) as source:
        plans = chosen_plans(plans_of(settings, source), names)
    with target_of(settings) as target:
        yield target, plans


def _statements(differences: tuple[Difference, ...]) -> tuple[str, ...]:
    return tuple(statement for difference in differences for statement in difference.statements)


def _print_statements(statements: dict[TableId, tuple[str, ...]], as_json: bool) -> None:
    """As SQL that a client can run, each statement once: tables share their database."""
    if as_json:
        tables = [{"table": str(name), "statements": list(each)} for name, each in statements.items()]
        say(json.dumps({"tables": tables}, indent=2))
        return
    for statement in dict.fromkeys(statement for each in statements.values() for statement in each):
        say(f"{statement};")


def _print_difference(difference: Difference) -> None:
    say(f"  {difference}" + ("" if difference.blocks else " (rows are delivered all the same)"))
    if difference.reason:
        say(f"    not mended: {difference.reason}")
    for statement in difference.statements:
        say("    " + f"{statement};".replace("\n", "\n    "))


def _document(difference: Difference) -> dict[str, Any]:
    return {
        "kind": difference.kind.value,
        "subject": difference.subject,
        "found": difference.found,
        "wanted": difference.wanted,
        "blocks": difference.blocks,
        "statements": list(difference.statements),
        "reason": difference.reason,
    }
