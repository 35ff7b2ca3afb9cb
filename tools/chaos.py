"""Faults at random, for as long as asked: live writer, `cdc run`, ClickHouse and Redis; equal at the end.

    python tools/chaos.py --minutes 30 --least 300 --seed 1

The seed decides in which order the faults come, when and for how long; how far the processes have got when
one comes it does not. All have been there before one comes again. Each ends before the next begins; every few
of them source and target are compared. Exit code 1: rows were lost or are there twice under FINAL, or
something did not recover. Then everything there is to say of it is told, and the files are kept.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.chaos import TABLES, Faults, Place, diagnosis, faults_of, installation
from tools.ending import leaving_nothing

COMPARE_EVERY = 20
SETTLE_SECONDS = 120.0
"""After so long something hangs; a busy machine alone can make it a minute."""
QUIET_SECONDS = 0.5
"""At most so long nothing is broken before the next fault."""


@dataclass
class Chaos:
    """What has been broken so far."""

    place: Place
    seed: int
    faults: Faults
    done: Counter[str] = field(default_factory=Counter)
    slowest: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """The longest recovery by fault, in seconds."""
    last: str = ""
    """The fault that came last."""
    deck: list[str] = field(default_factory=list)
    """Those that come before any comes again, the next one last."""

    def one(self) -> tuple[str, float, float]:
        """One fault, and the time until what was committed at its end has arrived; its name, how long it
        lasted and how long that took."""
        # Each has chances of its own, so that the next does not depend on what this one met.
        chance = self.place.random = random.Random(f"{self.seed}/{self.done.total()}")
        if not self.deck:
            self.deck = sorted(self.faults)
            chance.shuffle(self.deck)
        self.last = self.deck.pop()
        time.sleep(chance.uniform(0.0, QUIET_SECONDS))
        began = time.monotonic()
        self.faults[self.last]()
        lasted = time.monotonic() - began
        took = self.place.rig.recover(SETTLE_SECONDS)
        self.slowest[self.last] = max(self.slowest[self.last], took)
        self.done[self.last] += 1
        return self.last, lasted, took


def run(
    minutes: float,
    seed: int,
    *,
    rate: int,
    least: int,
    say: Callable[[str], None],
    only: Sequence[str] = (),
    compare_every: int = COMPARE_EVERY,
) -> Chaos:
    """Break things for so long, and at least so often.

    Args:
        only: the faults to choose from; all when empty.

    Raises:
        AssertionError: something did not arrive, or is there twice under FINAL. The files are kept then.
    """
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    with installation(directory, rate) as place:
        faults = {name: fault for name, fault in faults_of(place).items() if not only or name in only}
        chaos = Chaos(place, seed, faults)
        try:
            _break(chaos, minutes, least, compare_every, say)
        except Exception as error:
            told = f"chaos, seed {seed}, fault {chaos.done.total() + 1}: {error}\n"
            told += diagnosis(place.rig, chaos.last)
            (directory / "diagnosis.txt").write_text(told)
            raise AssertionError(f"{told}\nThe files are kept in {directory}") from error
    shutil.rmtree(directory, ignore_errors=True)
    return chaos


def _break(chaos: Chaos, minutes: float, least: int, compare_every: int, say: Callable[[str], None]) -> None:
    rig, began = chaos.place.rig, time.monotonic()
    while time.monotonic() < began + 60.0 * minutes or chaos.done.total() < least:
        name, lasted, took = chaos.one()
        say(f"{chaos.done.total():4d}  {name}: lasted {lasted:.1f} s, recovered in {took:.1f} s")
        if chaos.done.total() % compare_every == 0:
            _settle(chaos, f"chaos, after {chaos.done.total()} faults")
            say(f"      equal after {time.monotonic() - began:.0f} s")
    rows = int(rig.query("SELECT uniqExact(trade_id) FROM DB.trades"))
    lost, twice = _settle(chaos, f"chaos, {chaos.done.total()} faults, seed {chaos.seed}")
    say(
        f"{chaos.done.total()} faults in {(time.monotonic() - began) / 60:.1f} minutes, {rows} trades: "
        f"{lost} lost, {twice} twice under FINAL, slowest recovery {max(chaos.slowest.values()):.1f} s"
    )
    for name in sorted(chaos.faults):
        say(f"  {chaos.done[name]:4d} {name}: slowest recovery {chaos.slowest[name]:.1f} s")


def _settle(chaos: Chaos, title: str) -> tuple[int, int]:
    chaos.place.redis_is_used()
    slowest = max(chaos.slowest.values())
    outcome = chaos.place.rig.settle(title, slowest, "", tables=TABLES, seconds=SETTLE_SECONDS)
    return outcome.lost, outcome.duplicated


def main() -> int:
    options = argparse.ArgumentParser(
        prog="chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--minutes", type=float, default=2.0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--rate", type=int, default=200, help="trades per second (200)")
    options.add_argument("--least", type=int, default=0, help="go on until so many faults (0)")
    options.add_argument("--only", action="append", default=[], help="a fault to choose from, by name (all)")
    given = options.parse_args()
    try:
        with leaving_nothing():
            run(
                given.minutes,
                given.seed,
                rate=given.rate,
                least=given.least,
                only=given.only,
                say=lambda text: print(text, flush=True),
            )
    except AssertionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
