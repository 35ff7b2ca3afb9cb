"""`cdc watermark` and `cdc resync`: how far is each table delivered, and from where shall it go on?"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cdc.change import TableId
from cdc.cli import context
from cdc.cli.console import console, table
from cdc.cli.saying import say
from cdc.state import TableRecord, holder, open_store
from cdc.watermark import apply_reset, columns_of, no_replicator, plan_reset

Force = Annotated[bool, typer.Option("--force", help="Also while a replicator runs; it loads the new mark.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
Source = Annotated[
    str | None, typer.Option(metavar="ID", help="The source, by the beginning of its identity, if several.")
]


def table_id(text: str) -> TableId:
    """A table as a person names it; a name that is none is a usage error."""
    try:
        return TableId.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Table = Annotated[TableId, typer.Argument(metavar="TABLE", parser=table_id, help="table or schema.table")]
To = Annotated[str | None, typer.Option(metavar="VALUE", help="Go back to this watermark.")]
AnyTable = Annotated[
    TableId | None, typer.Argument(metavar="[TABLE]", parser=table_id, help="All tables if not given.")
]


def register(app: typer.Typer) -> None:
    from cdc.cli.rebuild import rebuild

    commands = typer.Typer(no_args_is_help=True, help="Show or move the marks: how far tables are delivered.")
    commands.command("list")(list_marks)
    commands.command("set")(set_mark)
    commands.command("reset")(reset)
    commands.command("rebuild")(rebuild)
    app.add_typer(commands, name="watermark")
    app.command("resync")(resync)


def list_marks(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON array.")] = False,
) -> None:
    """Show each table's mark, what was delivered up to it, and who replicates."""
    directory = context.settings(ctx).state.directory
    with open_store(directory, mode="read") as store:
        records = store.tables()
    if as_json:
        say(json.dumps([_document(record) for record in records], indent=2))
        return
    headings = ("table", "watermark", "mark", "key", "rows", "failed", "spool", "position", "updated")
    rows = [_row(record) for record in records]
    console().print(table(headings, rows, right=("rows", "failed", "spool")))
    for source in sorted({record.source for record in records}):
        owner = holder(directory, source)
        console().print(f"source {source}: " + (f"replicated by {owner}" if owner else "not replicated now"))


def set_mark(
    ctx: typer.Context,
    name: Table,
    value: Annotated[str, typer.Argument(help="A value of the watermark column.")],
    source: Source = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    force: Force = False,
) -> None:
    """Set a table's mark: rows from this watermark on are sent (again), earlier ones where a comparison finds
    that the target lacks them."""
    reset(ctx, name, value, source, dry_run, yes, force)


def reset(
    ctx: typer.Context,
    name: AnyTable = None,
    to: To = None,
    source: Source = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    force: Force = False,
) -> None:
    """Clear the marks, so that every row is sent again, or move them to --to. The target stays correct."""
    change_marks(
        context.settings(ctx).state.directory,
        name,
        to=to,
        source=source,
        dry_run=dry_run,
        yes=yes,
        force=force,
    )


def resync(
    ctx: typer.Context,
    name: Table,
    source: Source = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    force: Force = False,
) -> None:
    """Send every row of a table again. Rows the target has already are replaced by themselves."""
    reset(ctx, name, None, source, dry_run, yes, force)


def change_marks(
    directory: Path,
    name: TableId | None,
    *,
    to: str | None,
    source: str | None,
    dry_run: bool,
    yes: bool,
    force: bool,
) -> None:
    """Show the marks before and after, ask, and change them; what `set`, `reset` and `resync` come to.

    Raises:
        LeaseHeld: a replicator runs, and `force` was not said.
        StateError: the store cannot be used, or does not know the table or such a value.
    """
    with open_store(directory, mode="read") as store:
        changes = plan_reset(store, name, to=to, source=source)
    for change in changes:
        say(str(change))
    if dry_run:
        say("nothing was changed (--dry-run)")
        return
    with no_replicator(directory, changes[0].record.source, force=force):
        if not yes:
            confirm("Change it?" if len(changes) == 1 else "Change them?")
        with open_store(directory, mode="write") as store:
            apply_reset(store, changes)
    say("done")


def confirm(question: str) -> None:
    """Ask; anything but yes ends the command.

    Raises:
        typer.BadParameter: there is nobody to ask.
    """
    if not _somebody_is_there():
        raise typer.BadParameter("standard input is no terminal to ask on; add --yes")
    typer.confirm(question, abort=True)


def _somebody_is_there() -> bool:
    return sys.stdin.isatty()


def _document(record: TableRecord) -> dict[str, Any]:
    columns = columns_of(record)
    return {
        "source": record.source,
        "table": str(record.table),
        "watermark_column": None if columns is None else columns.names[0],
        "watermark_type": None if columns is None else columns.types[0],
        "key_columns": None if columns is None else columns.names[1:],
        "mark": None if record.mark is None else record.mark.watermark,
        "key": None if record.mark is None else record.mark.key,
        "rows": record.rows,
        "bytes": record.bytes,
        "batches": record.batches,
        "failed_rows": record.failed_rows,
        "spool_rows": record.spooled_rows,
        "position": None if record.position is None else str(record.position),
        "schema_version": record.schema_version,
        "updated_at": record.updated_at,
    }


def _row(record: TableRecord) -> tuple[str, ...]:
    columns, mark = columns_of(record), record.mark
    return (
        str(record.table),
        "" if columns is None else f"{columns.names[0]} {columns.types[0]}",
        "(none)" if mark is None else mark.watermark,
        "" if mark is None else ", ".join(mark.key),
        f"{record.rows:,}",
        f"{record.failed_rows:,}",
        f"{record.spooled_rows:,}",
        "" if record.position is None else str(record.position),
        datetime.fromtimestamp(record.updated_at, UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
    )
