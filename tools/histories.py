"""Random histories of a whole installation, as many as asked for; each must end equal, or with an alert.

    python -m tools.histories --first 0 --count 1000 --jobs 2
    python -m tools.histories --served --count 200      # of tables that their writer serves

One that ends with a silent difference is told with its seed and its steps; the replicators' log is kept below
--keep. Exit code 1: there was one.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.clickhouse import ClickHouseServer, make_certificates, running_server
from tests.support.histories import Verdict, run_history
from tests.support.served import ServedWriter, follow
from tests.support.served_histories import served_history
from tools.ending import leaving_nothing


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
    began, lock = time.monotonic(), threading.Lock()
    counts: Counter[str] = Counter()
    happened: Counter[str] = Counter()

    def one(server: ClickHouseServer, seed: int) -> None:
        if options.minutes and time.monotonic() - began > options.minutes * 60:
            return
        place = directory / str(seed)
        verdict = run_history(place, server, seed, steps=options.steps, tampering=not options.no_tampering)
        shutil.rmtree(place, ignore_errors=True)
        with lock:
            counts.update(_counted(verdict))
            happened.update(verdict.steps)
            if not verdict.holds:
                _tell(verdict, options.keep)

    with (
        running_server(directory / "server", certificates) as server,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        for done in [pool.submit(one, server, options.first + n) for n in range(options.count)]:
            done.result()
    print(
        f"{counts['histories']} histories ({options.first} on), {counts['tables']} tables,"
        f" {counts['steps']} steps in {time.monotonic() - began:.0f} s:"
        f" {counts['silent']} silent differences, {counts['told']} told by an alert"
    )
    print(", ".join(f"{times} {step}" for step, times in happened.most_common()))
    return 1 if counts["silent"] else 0


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
