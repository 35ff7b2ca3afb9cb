"""Random histories of a whole installation, as many as asked for; each must end equal, or with an alert.

    python -m tools.histories --first 0 --count 1000 --jobs 2
    python -m tools.histories --served --count 200      # of tables that their writer serves

One that ends with a silent difference is told with its seed and its steps; the replicators' log is kept below
--keep. Exit code 1: there was one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.clickhouse import ClickHouseServer, make_certificates, running_server
from tests.support.histories import Verdict, run_history, warm_up
from tests.support.served import ServedWriter, follow
from tests.support.served_histories import served_history
from tools.ending import leaving_nothing

COLD_EVERY = 50
"""In one history of so many each process is started anew; in the others they are forked."""
SUM_UP_EVERY = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=20, help="how many histories")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    parser.add_argument("--steps", type=int, default=25, help="what happens in each")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin none after so long; 0: no bound")
    parser.add_argument("--no-tampering", action="store_true", help="leave the target alone")
    parser.add_argument("--keep", type=Path, default=Path("histories"), help="where failures are kept")
    parser.add_argument("--served", action="store_true", help="read what its writer serves over Quack")
    options = parser.parse_args()
    with leaving_nothing(), tempfile.TemporaryDirectory(prefix="cdc-histories-") as directory:
        run = _run_served if options.served else _run
        return run(options, Path(directory))


def _run_served(options: argparse.Namespace, directory: Path) -> int:
    began, unequal = time.monotonic(), 0
    with ServedWriter(directory / "t.db") as writer, follow(writer) as source:
        for seed in range(options.first, options.first + options.count):
            try:
                served_history(writer, source, seed)
            except AssertionError as error:
                unequal += 1
                print(f"seed {seed}: {str(error)[:400]}", flush=True)
    print(
        f"{options.count} histories over Quack ({options.first} on) in {time.monotonic() - began:.0f} s:"
        f" {unequal} unequal"
    )
    return 1 if unequal else 0


def _run(options: argparse.Namespace, directory: Path) -> int:
    (directory / "certificates").mkdir()
    certificates = make_certificates(directory / "certificates")
    told = _Told(options)
    with running_server(directory / "server", certificates) as server:
        _Worker.one = partial(_one, options, directory, server, time.monotonic())
        seeds = range(options.first, options.first + options.count)
        # Processes of one thread each, for they fork.
        with multiprocessing.get_context("fork").Pool(options.jobs, warm_up) as pool:
            for verdict in pool.imap_unordered(_Worker.run, seeds):
                if verdict is not None:
                    told.add(verdict)
    told.sum_up()
    return 1 if told.counts["silent"] else 0


class _Worker:
    one: Callable[[int], Verdict | None]
    """Inherited by the processes."""

    @staticmethod
    def run(seed: int) -> Verdict | None:
        return _Worker.one(seed)


def _one(
    options: argparse.Namespace, directory: Path, server: ClickHouseServer, began: float, seed: int
) -> Verdict | None:
    if options.minutes and time.monotonic() - began > options.minutes * 60:
        return None
    place = directory / str(seed)
    cold = seed % COLD_EVERY == 0
    try:
        return run_history(
            place, server, seed, steps=options.steps, tampering=not options.no_tampering, cold=cold
        )
    except Exception as error:  # noqa: BLE001 - one that cannot be played does not end the others
        return Verdict(seed, {"history": f"not played to its end: {error!r}"}, {}, 0, (), 0.0)
    finally:
        shutil.rmtree(place, ignore_errors=True)


class _Told:
    """What came of those that have ended."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.began = time.monotonic()
        self.counts: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()

    def add(self, verdict: Verdict) -> None:
        self.counts.update(_counted(verdict))
        self.happened.update(verdict.happened)
        if not verdict.holds:
            _tell(verdict, self.options.keep)
        for table, alert in verdict.told.items():
            print(f"seed {verdict.seed}: {table}: {alert}", flush=True)
        if self.counts["histories"] % SUM_UP_EVERY == 0:
            self.sum_up()

    def sum_up(self) -> None:
        counts = self.counts
        print(
            f"{counts['histories']} histories ({self.options.first} on), {counts['tables']} tables,"
            f" {counts['steps']} steps in {time.monotonic() - self.began:.0f} s, {_cpu_seconds():.0f} s"
            f" of a core: {counts['silent']} silent differences, {counts['told']} told by an alert"
        )
        print(", ".join(f"{n} {what}" for what, n in self.happened.most_common() if n), flush=True)


def _cpu_seconds() -> float:
    """Of the processes that work here and those they had, the server's left out."""
    workers = [each for each in psutil.Process().children() if "clickhouse" not in each.name()]
    spent = [each.cpu_times() for each in workers]
    ended = os.times()
    return sum(each.user + each.system + each.children_user + each.children_system for each in spent) + (
        ended.children_user + ended.children_system
    )


def _counted(verdict: Verdict) -> dict[str, int]:
    return {
        "histories": 1,
        "tables": verdict.tables,
        "steps": len(verdict.steps),
        "silent": len(verdict.silent),
        "told": len(verdict.told),
    }


def _tell(verdict: Verdict, keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    (keep / f"{verdict.seed}.log").write_text(verdict.log)
    print(f"seed {verdict.seed}: {verdict.silent}\n  {' '.join(verdict.steps)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
