"""`cdc check-file`: is a DuckDB file whole, by its own checksums?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cdc.cli.saying import say
from cdc.errors import ExitCode


def register(app: typer.Typer) -> None:
    app.command("check-file")(check_file)


def check_file(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The database; its logs are found beside it.")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Check headers, blocks and log frames. Needs no lock: the file may be in use. Exit code 7: damaged."""
    from cdc.source.file.integrity import check_file as check

    checked = check(path)
    if as_json:
        document = {
            "path": str(path),
            "sound": checked.sound,
            "blocks": checked.blocks,
            "free_blocks": checked.free_blocks,
            "frames": checked.frames,
            "problems": checked.problems,
            "unchecked": checked.unchecked,
        }
        say(json.dumps(document))
    else:
        verdict = "sound" if checked.sound else "DAMAGED"
        say(f"{path}: {verdict}; {checked.blocks} blocks and {checked.frames} log frames checked")
        for problem in checked.problems:
            say(f"  {problem}")
        for reason in checked.unchecked:
            say(f"  not checked: {reason}")
    raise typer.Exit(ExitCode.OK.value if checked.sound else ExitCode.DIFFERENT.value)
