"""Writes every change of a table into Parquet files, with each row's version and whether it was deleted.

    python examples/parquet.py trades.duckdb trades changes/

The newest state of each key is the row of the greatest `_version`. The token of the last change is kept
beside the files. It is replaced after a file is whole: a kill at any moment repeats a change and loses none.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import cdc


def write(change: cdc.Change, directory: Path, number: int) -> None:
    """One change as one file."""
    deleted = change.deleted
    if deleted is None:
        deleted = pa.array([False] * change.rows.num_rows)
    table = pa.Table.from_batches([change.rows])
    table = table.append_column("_version", change.versions).append_column("_deleted", deleted)
    part = directory / ".part"
    pq.write_table(table, part)
    os.replace(part, directory / f"{number:012}.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep every change of a table in Parquet files.")
    parser.add_argument("path", type=Path, help="the DuckDB file")
    parser.add_argument("table")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--once", action="store_true", help="end when everything there is was written")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    token = options.directory / "token"
    after = token.read_text() if token.exists() else None
    number = len(list(options.directory.glob("*.parquet")))
    with cdc.open_source(options.path) as database:
        for change in database.follow(options.table, after=after, wait=not options.once):
            if change.rows.num_rows:
                write(change, options.directory, number)
                number += 1
            change.acknowledge()
            token.write_text(change.token)


if __name__ == "__main__":
    main()
