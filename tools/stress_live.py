"""Does a live reader ever see anything but committed states? Writers of several versions, checked snapshots.

    python -m tools.stress_live [--seconds 10] [--versions 1.0.0 2.0.0] [--threshold 1MB]

For each version of DuckDB, with and without a primary key, a writer commits as fast as it can, with a small
checkpoint threshold, while snapshots are taken. Of each the invariants are checked: whole commits only, no
row missing or twice (count, max, distinct), the sum that transfers between rows keep, nothing less than was
committed before the snapshot, nothing less than the snapshot before showed. Exit code 1 on a wrong answer.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cdc.change import Position
from cdc.errors import SnapshotSuperseded
from cdc.source import DuckDbSource, open_source
from tests.support.writers import VERSIONS, Writer

ROWS_A_COMMIT = 100
TRANSFERS = 10
"""One transfer in this many commits."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one writer and its reader came to."""

    version: str
    primary_key: bool
    seconds: float
    commits: int
    checkpoints: int
    snapshots: int
    superseded: int
    wrong: tuple[str, ...]

    def line(self) -> str:
        return (
            f"{self.version:>7} {'yes' if self.primary_key else 'no':>4} {self.seconds:>6.1f} "
            f"{self.commits / self.seconds:>9.0f} {self.checkpoints:>12} {self.snapshots:>10} "
            f"{self.superseded:>11} {len(self.wrong):>6}"
        )


HEADING = "version  key   secs commits/s  checkpoints  snapshots  superseded  wrong"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one snapshot showed."""

    rows: int
    largest: int
    total: int
    distinct: int
    position: Position


def look(source: DuckDbSource) -> Seen:
    """The figures of one snapshot."""
    with source.snapshot() as snapshot:
        found = snapshot.query(
            "SELECT count(*), coalesce(max(id), -1), coalesce(sum(v), 0)::VARCHAR, count(DISTINCT id) FROM t"
        ).read_all()
        rows, largest, total, distinct = (column[0].as_py() for column in found.columns)
        return Seen(rows, largest, int(total), distinct, snapshot.position)


def problems(before: int, seen: Seen, last: Seen | None) -> Iterator[str]:
    """What is wrong with `seen`, read after `before` rows were committed, and after `last`."""
    if seen.rows % ROWS_A_COMMIT:
        yield f"{seen.rows} rows are part of a commit"
    if seen.rows != seen.largest + 1 or seen.rows != seen.distinct:
        yield f"{seen.rows} rows, {seen.distinct} distinct, largest {seen.largest}"
    if seen.total != 7 * seen.rows * (seen.rows - 1) // 2:
        yield f"the sum of {seen.rows} rows is {seen.total}"
    if seen.rows < before:
        yield f"{seen.rows} rows, though {before} were committed before"
    if last is not None and (seen.rows < last.rows or seen.position < last.position):
        yield f"went back from {last} to {seen}"


def stress(
    directory: Path,
    version: str,
    primary_key: bool,
    seconds: float,
    threshold: str,
    snapshots: int = sys.maxsize,
) -> Result:
    """Run one writer and one reader for `seconds`, or until `snapshots` were checked."""
    path = directory / f"stress-{version}-{primary_key}.db"
    wrong: list[str] = []
    checked = 0
    with Writer(path, version, {"checkpoint_threshold": threshold}) as writer:
        writer.run(f"CREATE TABLE t (id BIGINT{' PRIMARY KEY' if primary_key else ''}, v BIGINT)")
        writer.run("CHECKPOINT")
        with open_source(path, direct=False) as source:
            first = source.position()
            writer.load("t", ROWS_A_COMMIT, TRANSFERS)
            began = time.monotonic()
            last: Seen | None = None
            queries_superseded = 0
            while time.monotonic() - began < seconds and checked < snapshots:
                before = writer.committed
                try:
                    seen = look(source)
                except SnapshotSuperseded:
                    queries_superseded += 1
                    continue
                checked += 1
                wrong += [f"{version}: {problem}" for problem in problems(before, seen, last)]
                last = seen
            took = time.monotonic() - began
            committed = writer.pause()
            final = look(source)
            wrong += [f"{version}: {problem}" for problem in problems(committed, final, last)]
            return Result(
                version,
                primary_key,
                took,
                committed // ROWS_A_COMMIT,
                final.position.iteration - first.iteration,
                checked + 1,
                source.superseded + queries_superseded,
                tuple(wrong),
            )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check snapshots of live files for anything but commits.")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each of the writers")
    parser.add_argument("--versions", nargs="+", default=VERSIONS)
    parser.add_argument("--threshold", default="1MB", help="the writers' checkpoint_threshold")
    options = parser.parse_args(arguments)
    print(HEADING)
    results = []
    with tempfile.TemporaryDirectory(prefix="cdc-stress-") as directory:
        for version in options.versions:
            for primary_key in (False, True):
                result = stress(Path(directory), version, primary_key, options.seconds, options.threshold)
                print(result.line(), flush=True)
                results.append(result)
    wrong = [problem for result in results for problem in result.wrong]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{sum(result.snapshots for result in results)} snapshots, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
