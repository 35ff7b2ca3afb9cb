"""Calls a function for every change of a table, and goes on where it was after a restart.

    python examples/callback.py trades.duckdb trades --token trades.token

Stop it with Ctrl-C. A change that was handled just before a kill may be handled once more.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cdc


def handle(change: cdc.Change) -> None:
    """What your program does with a change."""
    deleted = [False] * change.rows.num_rows if change.deleted is None else change.deleted.to_pylist()
    for row, gone in zip(change.rows.to_pylist(), deleted, strict=True):
        print("-" if gone else "+", row)
    if change.unseen is not None:
        print("! compare your copy:", change.unseen)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print every change of a table.")
    parser.add_argument("path", type=Path, help="the DuckDB file")
    parser.add_argument("table")
    parser.add_argument("--token", type=Path, default=Path("token"), help="where the place is kept")
    parser.add_argument("--once", action="store_true", help="end when everything there is was handled")
    options = parser.parse_args()
    after = options.token.read_text() if options.token.exists() else None
    with cdc.open_source(options.path) as database:
        for change in database.follow(options.table, after=after, wait=not options.once):
            handle(change)
            change.acknowledge()
            options.token.write_text(change.token)


if __name__ == "__main__":
    main()
