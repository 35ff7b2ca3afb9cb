"""Faults at random, for as long as asked: a live writer, `cdc run`, a real ClickHouse; equal at the end.

    python tools/chaos.py --minutes 30 --seed 1

The seed decides which faults come, in which order and for how long; how far the processes have got when one
comes it does not. Each fault ends before the next begins; every few of them source and target are compared.
Exit code 1: rows were lost or are there twice under FINAL.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.clickhouse import ClickHouseServer, make_certificates, running_server
from tests.support.dying import STEPS
from tests.support.faults import Rig
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

COMPARE_EVERY = 10
SETTLE_SECONDS = 60.0
LONGEST_FAULT_SECONDS = 3.0


@dataclass
class Chaos:
    """What there is to break, and what has been broken so far."""

    rig: Rig
    proxy: Proxy
    server: ClickHouseServer
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    last: str = ""
    """The fault that came last."""

    def faults(self) -> dict[str, Callable[[], None]]:
        """Every fault by name; each is over when it returns."""
        return {
            "connection cut": self.proxy.cut,
            "half-closed": self.proxy.half_close,
            "insert truncated": self._truncate,
            "network refuses": lambda: self._while(self.proxy.refuse, self.proxy.heal),
            "network silent": lambda: self._while(self.proxy.blackhole, self._unblock),
            "network slow": lambda: self._while(self._slow, self.proxy.heal),
            "ClickHouse killed": lambda: self._while(self.server.kill, self.server.start),
            "ClickHouse frozen": self._freeze,
            "ClickHouse restarted": self.server.restart,
            "replicator killed": self._kill,
            "replicator stopped": self._stop,
            "replicator killed at a step": lambda: self._die("KILL"),
            "replicator stopped at a step": lambda: self._die("TERM"),
            "writer killed": self._kill_writer,
            "writer stopped": self._stop_writer,
        }

    def one(self) -> str:
        """One fault, and the time until what was committed at its end has arrived."""
        name, fault = self.random.choice(sorted(self.faults().items()))
        self.last = name
        fault()
        self.slowest = max(self.slowest, self.rig.recover(SETTLE_SECONDS))
        self.done[name] += 1
        return name

    def _while(self, begin: Callable[[], object], end: Callable[[], object]) -> None:
        begin()
        time.sleep(self.random.uniform(0.0, LONGEST_FAULT_SECONDS))
        end()

    def _truncate(self) -> None:
        before = self.proxy.connections
        self.proxy.truncate(self.random.randrange(4000))
        wait_until(lambda: self.proxy.connections > before, "an insert to be cut")

    def _slow(self) -> None:
        self.proxy.delay_seconds = self.random.uniform(0.01, 0.7)

    def _unblock(self) -> None:
        self.proxy.cut()
        self.proxy.heal()

    def _freeze(self) -> None:
        with self.server.frozen():
            time.sleep(self.random.uniform(0.0, LONGEST_FAULT_SECONDS))

    def _kill(self) -> None:
        self.rig.replica.kill()
        self.rig.replicate(mortal=True)

    def _stop(self) -> None:
        self.rig.replica.stop()
        self.rig.replicate(mortal=True)

    def _die(self, by: str) -> None:
        self.rig.replica.die(self.random.choice(STEPS), by)
        self.rig.replicate(mortal=True)

    def _kill_writer(self) -> None:
        self.rig.writer.kill()
        self.rig.write()

    def _stop_writer(self) -> None:
        self.rig.writer.stop()
        self.rig.write()


@contextmanager
def installation(directory: Path, rate: int) -> Iterator[tuple[Rig, Proxy, ClickHouseServer]]:
    """A writer, a replicator and a server that run and are caught up."""
    certificates = make_certificates(directory / "certificates")
    with running_server(directory / "clickhouse", certificates) as server, Proxy(server.native_port) as proxy:
        url = f"clickhouse://127.0.0.1:{server.native_port}"
        through = f"clickhouse://127.0.0.1:{proxy.port}"
        with Rig(directory / "rig", url, server.query, through=through, rate=rate) as rig:
            rig.write()
            rig.replicate(mortal=True)
            rig.recover()
            yield rig, proxy, server


def run(minutes: float, seed: int, *, rate: int, least: int, say: Callable[[str], None]) -> Chaos:
    """Break things for so long, and at least so often.

    Raises:
        AssertionError: something did not arrive, or is there twice under FINAL.
    """
    with (
        tempfile.TemporaryDirectory() as directory,
        installation(Path(directory), rate) as (rig, proxy, server),
    ):
        chaos = Chaos(rig, proxy, server, random.Random(seed))
        until = time.monotonic() + 60.0 * minutes
        while time.monotonic() < until or chaos.done.total() < least:
            try:
                say(f"{chaos.done.total() + 1:4d} {chaos.one()}")
            except AssertionError as error:
                raise AssertionError(f"{chaos.last}: {error}\n{rig.told()}") from error
            if chaos.done.total() % COMPARE_EVERY == 0:
                rig.settle(f"chaos, after {chaos.done.total()} faults", chaos.slowest, "")
        rows = int(rig.query("SELECT uniqExact(trade_id) FROM DB.trades"))
        outcome = rig.settle(f"chaos, {chaos.done.total()} faults, seed {seed}", chaos.slowest, "")
        say(
            f"{chaos.done.total()} faults, {rows} trades: {outcome.lost} lost, {outcome.duplicated} twice "
            f"under FINAL, slowest recovery {chaos.slowest:.1f} s"
        )
        for name, times in sorted(chaos.done.items()):
            say(f"  {times:4d} {name}")
    return chaos


def main() -> int:
    options = argparse.ArgumentParser(prog="chaos", description=__doc__)
    options.add_argument("--minutes", type=float, default=2.0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--rate", type=int, default=200, help="trades per second (200)")
    options.add_argument("--least", type=int, default=0, help="go on until so many faults (0)")
    given = options.parse_args()
    try:
        run(
            given.minutes,
            given.seed,
            rate=given.rate,
            least=given.least,
            say=lambda text: print(text, flush=True),
        )
    except AssertionError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
