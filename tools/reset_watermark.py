"""Clears or moves stored marks in a state directory, for when there is no configuration to run `cdc` with.

    python tools/reset_watermark.py --state DIRECTORY [TABLE] [--to VALUE] [--dry-run] [--yes] [--force]

It does what `cdc watermark reset` does: it shows the marks before and after, asks, and refuses while a
replicator runs unless it is forced.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cdc.cli.watermark import AnyTable, DryRun, Force, Source, To, Yes, change_marks
from cdc.errors import CdcError


def reset_watermark(
    state: Annotated[Path, typer.Option(help="The state directory, as in [state] directory.")],
    name: AnyTable = None,
    to: To = None,
    source: Source = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    force: Force = False,
) -> None:
    """Clear the marks, so that every row is sent again, or move them to --to."""
    try:
        change_marks(state, name, to=to, source=source, dry_run=dry_run, yes=yes, force=force)
    except CdcError as error:
        print(f"reset_watermark: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code.value) from None


if __name__ == "__main__":
    typer.run(reset_watermark)
