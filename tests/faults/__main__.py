"""`python -m tests.faults [ARGUMENTS OF PYTEST]`: every fault, and a table of what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COLUMNS = ("fault", "lost", "duplicated", "duplicates before FINAL", "recovery s", "message")
MESSAGE_CHARS = 160


def main(arguments: list[str]) -> int:
    """Run the tests and print the table; pytest's exit code."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        table = Path(directory) / "faults.jsonl"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-n",
                "2",
                "--dist",
                "loadfile",
                "tests/faults",
                *arguments,
            ],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"CDC_FAULT_TABLE": str(table)},
            check=False,
        )
        rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    print(render(rows))
    lost, twice = sum(row["lost"] for row in rows), sum(row["duplicated"] for row in rows)
    print(
        f"\n{len(rows)} faults, {time.monotonic() - began:.0f} s: {lost} rows lost, {twice} twice under FINAL"
    )
    return done.returncode


def render(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS)]
    for row in rows:
        *figures, message = (str(value) for value in row.values())
        short = message if len(message) <= MESSAGE_CHARS else f"{message[:MESSAGE_CHARS]}…"
        lines.append((*figures, short.replace("|", "\\|")))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
