"""`cdc failed`: which rows could not be loaded, why, and what shall become of them?"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from cdc.change import TableId
from cdc.cli import context
from cdc.cli.console import console, table
from cdc.cli.saying import say
from cdc.cli.watermark import Yes, confirm, table_id
from cdc.errors import ExitCode
from cdc.state import FailedRecord, Mode, Store, open_store

LIST_WIDTH = 80
"""Characters of a reason or a key in a list; `show` has all of them."""
VALUE_WIDTH = 1000
"""Characters of a value in `show`; `show --json` has all of them."""

Ids = Annotated[list[int], typer.Argument(metavar="ID...", help="As `cdc failed list` shows them.")]


def register(app: typer.Typer) -> None:
    commands = typer.Typer(no_args_is_help=True, help="Show, retry or discard rows that could not be loaded.")
    commands.command("list")(list_failed)
    commands.command("show")(show)
    commands.command("retry")(retry)
    commands.command("discard")(discard)
    app.add_typer(commands, name="failed")


def list_failed(
    ctx: typer.Context,
    name: Annotated[
        TableId | None, typer.Argument(metavar="[TABLE]", parser=table_id, help="All tables if not given.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON array.")] = False,
) -> None:
    """List the rows that could not be loaded, the oldest first."""
    with _store(ctx, "read") as store:
        records = store.failed(name, limit=limit)
        total = store.failed_count(name)
    if as_json:
        say(json.dumps([_document(record) for record in records], indent=2))
        return
    headings = ("id", "table", "key", "watermark", "attempts", "last", "reason")
    rows = [
        (
            str(record.id),
            str(record.table),
            _short(", ".join(record.row.key)),
            _short(record.row.watermark or ""),
            str(record.attempts),
            _time(record.last_at),
            _short(" ".join(record.row.reason.split())),
        )
        for record in records
    ]
    console().print(table(headings, rows, right=("id", "attempts")))
    if total > len(records):
        console().print(f"{total - len(records):,} more; see --limit")


def show(
    ctx: typer.Context,
    id_: Annotated[int, typer.Argument(metavar="ID")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show one failed row: its reason, its history, and every value of it."""
    with _store(ctx, "read") as store:
        record = store.failed_row(id_)
    values = _values(record.row.payload)
    if as_json:
        columns = [{"name": name, "type": type_, "value": value} for name, type_, value in values]
        say(json.dumps(_document(record) | {"columns": columns}, indent=2))
        return
    say(f"failed row {record.id} of {record.table} (source {record.source})")
    say(f"reason    {_short(' '.join(record.row.reason.split()), VALUE_WIDTH)}")
    say(f"attempts  {record.attempts}, first {_time(record.first_at)}, last {_time(record.last_at)}")
    say(f"due       {_time(record.due_at)}")
    say(f"version   {record.row.version}{' (deleted)' if record.row.deleted else ''}")
    shown = [
        (name, type_, "NULL" if value is None else _short(value, VALUE_WIDTH))
        for name, type_, value in values
    ]
    console().print(table(("column", "type", "value"), shown))


def retry(
    ctx: typer.Context,
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID...]")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every failed row.")] = False,
) -> None:
    """Mark failed rows as due: the running replicator, or the next one, sends them again at once."""
    if bool(ids) is everything:
        raise typer.BadParameter("name the rows to retry, or say --all")
    with _store(ctx, "write") as store:
        count = store.retry(None if everything else ids)
    say(f"{count} {_rows(count)} due now")
    _all_found(count, ids)


def discard(ctx: typer.Context, ids: Ids, yes: Yes = False) -> None:
    """Forget failed rows for good: they will not reach the target unless the table is sent again."""
    with _store(ctx, "write") as store:
        if not yes:
            confirm(f"Forget {len(ids)} failed {_rows(len(ids))} for good?")
        count = store.discard(ids)
    say(f"{count} {_rows(count)} discarded")
    _all_found(count, ids)


def _values(payload: bytes) -> list[tuple[str, str, str | None]]:
    """Name, type and text of each value of a row, as DuckDB writes them; None for NULL."""
    import pyarrow as pa

    from cdc.comparison import formatter, texts

    with pa.ipc.open_stream(payload) as reader, formatter() as connection:
        row = reader.read_next_batch()
        types = connection.from_arrow(pa.Table.from_batches([row])).types
        written = texts(connection, row)
    return [
        (name, str(kind), column[0].as_py())
        for name, kind, column in zip(row.schema.names, types, written.columns, strict=True)
    ]


def _document(record: FailedRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "source": record.source,
        "table": str(record.table),
        "key": record.row.key,
        "watermark": record.row.watermark,
        "reason": record.row.reason,
        "attempts": record.attempts,
        "first_at": record.first_at,
        "last_at": record.last_at,
        "due_at": record.due_at,
        "version": record.row.version,
        "deleted": record.row.deleted,
    }


def _store(ctx: typer.Context, mode: Mode) -> Store:
    return open_store(context.settings(ctx).state.directory, mode=mode)


def _all_found(count: int, ids: list[int] | None) -> None:
    if ids is not None and count < len(set(ids)):
        say("some of these rows are not there; see 'cdc failed list'", err=True)
        raise typer.Exit(ExitCode.FAILED.value)


def _rows(count: int) -> str:
    return "row" if count == 1 else "rows"


def _short(text: str, width: int = LIST_WIDTH) -> str:
    """`text` on one line, without anything that would steer a terminal."""
    line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[: width + 1])
    return line if len(text) <= width else line[: width - 1] + "…"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
