"""Adds every change of a table to a Redis stream, as JSON, with the token to go on from in the entry itself.

    python examples/redis_stream.py trades.duckdb trades redis://localhost:6379 changes

The place is read back from the stream's last entry, so stream and place cannot differ.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import redis

import cdc


def entries(change: cdc.Change) -> list[dict[str, str]]:
    """A change's rows as entries of a stream."""
    deleted = [False] * change.rows.num_rows if change.deleted is None else change.deleted.to_pylist()
    return [
        {"row": json.dumps(row, default=str), "deleted": str(int(gone))}
        for row, gone in zip(change.rows.to_pylist(), deleted, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Add every change of a table to a Redis stream.")
    parser.add_argument("path", type=Path, help="the DuckDB file")
    parser.add_argument("table")
    parser.add_argument("url")
    parser.add_argument("stream")
    parser.add_argument("--once", action="store_true", help="end when everything there is was added")
    options = parser.parse_args()
    client = redis.Redis.from_url(options.url, decode_responses=True)
    last = client.xrevrange(options.stream, count=1)
    after = last[0][1]["token"] if last else None
    with cdc.open_source(options.path) as database, client:
        for change in database.follow(options.table, after=after, wait=not options.once):
            added = entries(change)
            if added:
                added[-1]["token"] = change.token
                with client.pipeline(transaction=True) as pipeline:
                    for entry in added:
                        pipeline.xadd(options.stream, {"token": "", **entry})
                    pipeline.execute()
            change.acknowledge()


if __name__ == "__main__":
    main()
