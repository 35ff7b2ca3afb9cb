"""Random histories of one table that its writer serves: equal whenever its writer rests."""

from __future__ import annotations

import random

from cdc.source.served import ServedSource
from tests.support.kept import Kept, written
from tests.support.served import ServedWriter
from tests.support.sources import plan_of

STEPS = 14
_READS = 10
"""Reads enough for a comparison of all ranges."""


def served_history(writer: ServedWriter, source: ServedSource, seed: int, most_rows: int = 30_000) -> None:
    """Random transactions, reads and restarts of the reader; deletions are told, and then all is read anew.

    Args:
        most_rows: of one transaction.

    Raises:
        AssertionError: what was handed out is not what the writer has.
    """
    chance = random.Random(seed)
    table = f"h{seed}"
    version = "changed" if chance.random() < 0.5 else None
    writer.run(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, seq BIGINT, v INTEGER, changed BIGINT)")
    kept, last = Kept(source, plan_of(source, table, version=version)), 0
    for step in range(STEPS):
        match chance.randrange(7):
            case 0 | 1:
                rows = chance.choice((1, 2, 3, 700, most_rows))
                writer.run(
                    f"INSERT INTO {table} SELECT i, i, 0, 0 FROM range({last + 1}, {last + rows + 1}) AS r(i)"
                )
                last += rows
            case 2:
                writer.run(
                    f"UPDATE {table} SET v = v + 1, changed = {step} WHERE id % {chance.randint(1, 9)} = 0"
                )
            case 3:
                writer.run(f"UPDATE {table} SET v = -v WHERE id % {chance.randint(1, 900)} = 0")
            case 4:
                writer.run(f"DELETE FROM {table} WHERE id % {chance.randint(2, 900)} = 0")
            case 5:
                kept.reopen(source)
            case _:
                kept.read()
    settle(kept)
    if kept.broken:  # it said so: a comparison with the target mends it
        kept.reader.close()
        kept = Kept(source, plan_of(source, table, version=version))
        settle(kept)
    assert kept.rows == written(writer, table), (seed, version)
    kept.reader.close()
    writer.run(f"DROP TABLE {table}")


def settle(kept: Kept) -> None:
    for _ in range(_READS):
        kept.read()
