"""`cdc init`: a configuration of ten lines, from what is in the live file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdc.cli.saying import say
from cdc.visible import visible_line

if TYPE_CHECKING:
    from cdc.app.proposal import Proposal

DEFAULT_OUTPUT = Path("cdc.toml")


def register(app: typer.Typer) -> None:
    app.command("init")(init)


def init(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The DuckDB file, or quack://host:port of one served.")
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="clickhouse://host/db, http://host:8123/db or chdb:///dir."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the configuration is written.")
    ] = DEFAULT_OUTPUT,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Look at a live file and write the configuration that replicates it.

    For each table a key and a watermark are proposed, with the reason; what is unsure is marked CHECK. The
    file may be held by its writer. Passwords belong in secrets.toml beside the configuration, or in the
    environment.

    Example: cdc init trades.duckdb clickhouse://localhost/trading
    """
    from cdc.app.first_configuration import as_toml, proposals_for, settings_for, write

    settings = settings_for(source, target, output)
    proposals = proposals_for(settings)
    write(output, as_toml(source, target, proposals), replace=force)
    print_proposals(proposals)
    say(f"\n{output} is written. Next:")
    say(f"  cdc -c {output} run")


def print_proposals(proposals: Sequence[Proposal]) -> None:
    """A line for each table, and one for each thing that a person has to check."""
    for each in proposals:
        said = f"LEFT OUT: {each.left_out}" if each.left_out else "; ".join(each.why)
        say(visible_line(f"{each.table}: {said}"))
        for one in each.unsure:
            say(visible_line(f"  CHECK: {one}"))
