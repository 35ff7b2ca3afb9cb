"""`cdc query`: what is in the DuckDB file right now, while its writer goes on?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, cast

import typer

from cdc.cli import context
from cdc.cli.form import Format, form_of
from cdc.cli.saying import complain
from cdc.config import Settings
from cdc.errors import CdcError, SnapshotSuperseded, SourceError

if TYPE_CHECKING:
    from cdc.cli.answer import Answer
    from cdc.source import AnySnapshot, AnySource
    from cdc.source.deadline import Deadline

TABLE_LIMIT = 100
TRIES = 50
"""Snapshots that checkpoints may supersede before a query gives up."""


def register(app: typer.Typer) -> None:
    app.command("query")(query)


def query(
    ctx: typer.Context,
    sql: Annotated[
        str | None, typer.Argument(metavar="SQL", help="One SELECT; - reads it from the input.")
    ] = None,
    tables: Annotated[bool, typer.Option("--tables", help="List tables, columns and keys instead.")] = False,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            "-f",
            help="By the output's name if not given, else a table on a terminal and csv elsewhere.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=0, help=f"Rows at most; {TABLE_LIMIT} in a table if not given, else all."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="Give up after this long.")
    ] = None,
    fallback: Annotated[
        bool, typer.Option("--fallback", help="Ask ClickHouse when the file cannot be read.")
    ] = False,
) -> None:
    """Run SQL on a snapshot of the live file: its newest committed rows, and nothing of its writer's lock.

    The answer is collected before it is written: in memory, past 32 MB in a temporary file.
    """
    from cdc.cli.answer import Answer

    if tables is (sql is not None):
        raise typer.BadParameter("give one SQL statement, or --tables")
    form = form or form_of(output)
    if form.binary and output is None and sys.stdout.isatty():
        raise typer.BadParameter(f"{form.value} is not for a terminal; add --output FILE, or a pipe")
    limit = TABLE_LIMIT if limit is None and form is Format.TABLE else limit
    settings = context.settings(ctx)
    with Answer() as answer:
        if tables:
            _list_tables(settings, answer)
        else:
            text = sys.stdin.read() if sql == "-" else sql or ""
            _ask(settings, text, answer, limit, timeout, fallback=fallback)
        _deliver(answer, form, output)


def _ask(
    settings: Settings, sql: str, answer: Answer, limit: int | None, timeout: float | None, *, fallback: bool
) -> None:
    """Collect the answer of the file, or of ClickHouse where that is wanted and it cannot be read. [L2]"""
    from cdc.app.wiring import source_of
    from cdc.cli.statement import checked

    statement = checked(sql)
    try:
        with source_of(settings) as source:
            _collect(source, statement, answer, limit, timeout)
    except _Refused as refused:
        raise refused.error from None
    except SourceError as error:
        if not fallback:
            raise
        complain(str(error))
        _ask_target(settings, statement, answer, limit)
    else:
        if fallback:
            complain(f"{settings.database.path} answered")


class _Refused(Exception):
    """The query itself is at fault, not the file: nobody else is asked."""

    def __init__(self, error: CdcError) -> None:
        super().__init__(error)
        self.error = error


def _collect(source: AnySource, sql: str, answer: Answer, limit: int | None, timeout: float | None) -> None:
    from cdc.source.deadline import Deadline

    timer = Deadline(timeout)
    for attempt in range(1, TRIES + 1):
        try:
            with source.snapshot() as snapshot, timer.running(snapshot), _judged(sql, snapshot, timer):
                answer.collect(snapshot.query(sql), limit)
            return
        except SnapshotSuperseded as error:
            if attempt == TRIES:
                raise SourceError(
                    "query",
                    source.path,
                    f"each of {TRIES} snapshots was superseded by a checkpoint before the query ended",
                    "Ask for less at once, or raise the writer's checkpoint_threshold",
                ) from error


@contextmanager
def _judged(sql: str, snapshot: AnySnapshot, timer: Deadline) -> Iterator[None]:
    """Tell what the query is guilty of from what the file is.

    Raises:
        _Refused: the query is wrong, or its time is over.
    """
    from cdc.cli.statement import sql_error

    try:
        yield
    except SourceError as error:
        refusal = timer.refusal()
        if refusal is None and not isinstance(error, SnapshotSuperseded):
            refusal = sql_error(sql, error, snapshot.cursor)
        if refusal is not None:
            raise _Refused(refusal) from None
        raise


def _ask_target(settings: Settings, sql: str, answer: Answer, limit: int | None) -> None:
    """Collect ClickHouse's answer. A table's name means its view of current rows, one for each key."""
    from cdc.app.wiring import target_of
    from cdc.cli.embedded_statement import for_embedded_engine
    from cdc.cli.statement import on_current_rows
    from cdc.target.quote import quote_string

    with target_of(settings, reading=True) as target:
        views = ()
        if target.server_version.at_least(21, 1):
            database = quote_string(target.database)
            with target.query(
                f"SELECT name FROM system.tables WHERE database = {database} AND engine = 'View' "  # noqa: S608
                r"AND name LIKE '%\\_current' ORDER BY name"
            ) as reader:
                views = tuple(name for batch in reader for name in batch.column(0).to_pylist())
        if any(endpoint.kind == "embedded" for endpoint in settings.endpoints):
            sql = for_embedded_engine(sql, target.database)
        with target.query(on_current_rows(sql, target.database, views)) as reader:
            answer.collect(reader, limit)
        where = ", ".join(map(str, settings.endpoints))
        complain(f"ClickHouse answered ({where}): what has been replicated so far")


def _list_tables(settings: Settings, answer: Answer) -> None:
    """Collect a row for each column of each table."""
    import pyarrow as pa

    from cdc.app.wiring import source_of

    with source_of(settings) as source:
        schemas = source.tables()
    rows = [
        {
            "table": str(schema.table),
            "column": column.name,
            "type": column.type,
            "nullable": column.nullable,
            "key": schema.primary_key.index(column.name) + 1 if column.name in schema.primary_key else None,
        }
        for schema in schemas
        for column in schema.columns
    ]
    kinds = {
        "table": pa.string(),
        "column": pa.string(),
        "type": pa.string(),
        "nullable": pa.bool_(),
        "key": pa.int32(),
    }
    answer.collect(pa.Table.from_pylist(rows, pa.schema(kinds)).to_reader(), None)


def _deliver(answer: Answer, form: Format, output: Path | None) -> None:
    """Write the answer; a file appears whole or not at all, and a closed pipe is no error."""
    from rich.console import Console

    from cdc.cli.answer import show_table, write
    from cdc.comparison import formatter

    with formatter() as connection:
        if output is not None:
            with _whole_file(output) as file:
                if form is Format.TABLE:
                    text = open(file.fileno(), "w", encoding="utf-8", closefd=False)  # noqa: SIM115
                    show_table(answer, connection, Console(file=text, soft_wrap=True, highlight=False))
                    text.flush()
                else:
                    write(answer, form, file, connection)
            return
        try:
            if form is Format.TABLE:
                show_table(answer, connection)
            else:
                write(answer, form, _standard_output(form), connection)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # or Python flushes into it at exit


def _standard_output(form: Format) -> IO[bytes]:
    """Where another program reads: as it is. A terminal is not steered by what it shows.

    Raises:
        CdcError: the form is bytes, which no terminal shows.
    """
    from cdc.cli.answer import OnTerminal

    if not sys.stdout.isatty():
        return sys.stdout.buffer
    if form in (Format.ARROW, Format.PARQUET):
        raise CdcError(
            "write",
            "the answer",
            f"{form.value} is for programs, and this is a terminal",
            "Give --output FILE",
        )
    return cast("IO[bytes]", OnTerminal(sys.stdout))


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("xb") as file:  # never through a link that others put there
            yield file
        part.replace(path)
    except OSError as error:
        raise CdcError(
            "write", path, str(error.strerror or error), "Choose a file that can be written"
        ) from error
    finally:
        part.unlink(missing_ok=True)
