"""How long from a commit to its acknowledgement by ClickHouse, and what does that cost the machine?

A writer commits trades at a rate, and notes the time just after each COMMIT returns. A replicator in a
process of its own notes when each batch is acknowledged and its mark stored. Both use one machine's clock.
The log is filled to a size first, and not checkpointed, for what a replay costs grows with it. Beside the
replicator that follows the log, the same with snapshots alone. `--source quack` has the writer serve its
database, and measures a replicator that asks it beside one that follows the log; both with that writer.

`writer-slowdown` asks what the writer pays: it writes as fast as it can, with and without a replicator in
turns, and the median of the ratios counts. ClickHouse runs all the time. A third arm tells who takes it: the
writer beside a sender of as many inserts, encoded beforehand, so that ClickHouse works as beside a replicator
and the source is not read.

Writer, replicator and server have sessions of their own, as programs of `cdc up` have. The server keeps its
data in memory if it can: on the writer's disk it would wait for the writer's syncs with each file it makes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from cdc.change import BatchLimits
from cdc.cli.pandas_left_out import leave_pandas_out
from cdc.cli.priority import LOW_NICENESS, give_way
from cdc.config.endpoint import parse_endpoint
from cdc.replicator.pace import Pace
from cdc.replicator.parts import Policies, Ports
from cdc.replicator.plan import resolve
from cdc.replicator.ports import Delivered
from cdc.replicator.runner import Replicator
from cdc.source import DuckDbSource, open_source
from cdc.source.served import ServedSource, open_served
from cdc.state import Lease, open_store
from cdc.target import TargetOptions, open_target
from cdc.watermark import bind
from tests.support.clickhouse import make_certificates, running_server
from tests.support.replication import Recorder
from tests.support.served import EXTENSIONS, TOKEN, VERSION, extension_file, free_port
from tests.support.writers import interpreter

REST_SECONDS = 0.5
"""After catching up with the log: the replicator rests then, and the first commit would have to wait."""


class Defaults:
    """What a plan of `trades` takes from the configuration."""

    key, watermark, version = ("trade_id",), "seq", None


@dataclass(frozen=True, slots=True)
class Line:
    """One measurement."""

    log_mb: int
    rate: int
    rows: int
    keyed: bool
    updates: float
    way: str
    """log, snapshots or quack"""

    def __str__(self) -> str:
        key = "primary key" if self.keyed else "no key"
        rows = f"{self.rate:6,}/s {self.rows:3} a commit"
        return f"{self.way:10} {self.log_mb:3} MB {rows}  {key:11} {self.updates:4.0%}"


def main(arguments: Sequence[str]) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="bench latency", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("latency", "writer-slowdown"), default="latency")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each line is measured")
    parser.add_argument("--all", action="store_true", help="every combination: 96 lines")
    parser.add_argument("--quick", action="store_true", help="one line of a second: does it work at all")
    parser.add_argument("--source", choices=("file", "quack"), default="file")
    parser.add_argument("--embedded", action="store_true", help="into chdb, inside the replicator's process")
    parser.add_argument("--alternations", type=int, default=10, help="of writer-slowdown")
    parser.add_argument("--updates", type=float, default=0.2, help="of writer-slowdown, for each insert")
    parser.add_argument(
        "--server-directory", type=Path, default=_memory(), help="where ClickHouse keeps its data"
    )
    parser.add_argument("--niceness", type=int, default=LOW_NICENESS, help="of the replicator; 0: normal")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds, options.alternations = 3.0, 1
    with tempfile.TemporaryDirectory(prefix="cdc-latency-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        place = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="cdc-server-", dir=options.server_directory)
            )
        )
        endpoint = _endpoint(place, options.embedded, stack)
        if options.what == "writer-slowdown":
            from tools.bench_slowdown import print_slowdown

            how = options.seconds, options.alternations, options.niceness, options.updates
            print_slowdown(directory, endpoint, *how, served=options.source == "quack")
            return 0
        head = f"{'way, log, rate, rows, key, updates':58} {'p50':>7} {'p95':>7} {'p99':>7} ms  {'CPU':>5}"
        print(f"{head} {'a round':>8} {'1,000 rows':>10}", flush=True)
        lines = _served_lines() if options.source == "quack" else _lines(options.all, options.quick)
        python = served_python() if options.source == "quack" else Path(sys.executable)
        for number, line in enumerate(lines):
            place = directory / str(number)
            found, cost = _measure(place, endpoint(number), line, options.seconds, options.niceness, python)
            print(f"{line!s:58} {_shown(found)}     {cost}", flush=True)
    return 0


def _memory() -> Path | None:
    """Files that are kept in memory, where the system has such a directory."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else None


def _lines(everything: bool, quick: bool) -> list[Line]:
    if quick:
        return [Line(1, 200, 20, True, 0.2, "log")]
    rates, rows, keyed, updates = (200, 2000), (1, 20), (True, False), (0.0, 0.2)
    if everything:
        sizes, ways = (1, 4, 16), ("log", "snapshots")
        return [Line(*parts) for parts in itertools.product(sizes, rates, rows, keyed, updates, ways)]
    lines = [Line(4, *parts, "log") for parts in itertools.product(rates, rows, keyed, updates)]
    lines += [Line(size, 2000, 20, True, share, "log") for size in (1, 16) for share in updates]
    return lines + [Line(size, 2000, 20, True, 0.0, "snapshots") for size in (1, 4, 16)]


def _served_lines() -> list[Line]:
    """Inserts alone: updates without a version are found by digests, when their interval has passed."""
    shapes = itertools.product((200, 2000), (1, 20), ("log", "quack"))
    return [Line(1, rate, rows, True, 0.0, way) for rate, rows, way in shapes]


def served_python() -> Path:
    """With the newest DuckDB that has the extension."""
    return interpreter(VERSION, *EXTENSIONS)


def serving(port: int) -> tuple[object, ...]:
    """What the writer is told besides, to serve its database."""
    return port, TOKEN, *map(extension_file, EXTENSIONS)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a replicator did while it was measured, and the processor time of its process."""

    cpu_seconds: float
    seconds: float
    rounds: int
    rows: int

    @property
    def share(self) -> float:
        """Of a core."""
        return self.cpu_seconds / self.seconds

    def __str__(self) -> str:
        round_, rows = (
            1e3 * self.cpu_seconds / max(1, self.rounds),
            1e6 * self.cpu_seconds / max(1, self.rows),
        )
        return f"{self.share:5.0%} {round_:5.1f} ms {rows:7.1f} ms"


class Endpoints:
    """Where each line's rows go: a database of its own."""

    def __init__(self, base: str) -> None:
        self._base = base

    def __call__(self, number: int) -> str:
        return f"{self._base}-{number}" if self._base.startswith("chdb") else f"{self._base}/line_{number}"


def _endpoint(directory: Path, embedded: bool, stack: contextlib.ExitStack) -> Endpoints:
    if embedded:
        return Endpoints(f"chdb://{(directory / 'chdb').as_posix()}")
    place = directory / "server"
    place.mkdir()
    server = stack.enter_context(running_server(place, make_certificates(place)))
    return Endpoints(f"clickhouse://127.0.0.1:{server.native_port}")


@contextlib.contextmanager
def child(*arguments: object, python: Path = Path(sys.executable)) -> Iterator[subprocess.Popen[str]]:
    """A child that says `ready` when it is, goes on when told a line, and ends when its input closes."""
    modules = {"--send": "tools.bench_slowdown", "--write": "tools.bench_writer"}
    module = modules.get(str(arguments[0]), "tools.bench_latency")
    arguments = arguments[1:] if arguments[0] == "--write" else arguments
    command = [str(python), "-m", module, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise SystemExit(f"{' '.join(command)} failed")
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()
            if process.stdout is not None:
                process.stdout.read()  # or it would meet a closed pipe


def go(process: subprocess.Popen[str]) -> None:
    """Tell the child to go on."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The line of JSON that the child prints next."""
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def ended(process: subprocess.Popen[str], *last: int) -> dict[str, Any]:
    """What the child tells once it was told that its input ends, with the `last` seq to wait for."""
    assert process.stdin is not None
    process.stdin.write("".join(f"{seq}\n" for seq in last))
    process.stdin.close()
    process.stdin = None
    return told(process)


def _measure(
    directory: Path, endpoint: str, line: Line, seconds: float, niceness: int, python: Path
) -> tuple[list[float], Cost]:
    """Milliseconds from each commit to its acknowledgement, and what the replicator cost."""
    directory.mkdir()
    path = directory / "trades.duckdb"
    settings = (line.log_mb, line.rate, line.rows, int(line.keyed), line.updates, seconds)
    port = free_port()
    served = serving(port) if line.way == "quack" else ()
    source = f"quack://127.0.0.1:{port}" if line.way == "quack" else path
    with (
        child("--write", path, *settings, *served, python=python) as writer,
        child("--replicate", source, endpoint, line.way, niceness) as replicator,
    ):
        go(replicator)  # from here on its CPU time counts
        go(writer)
        commits = told(writer)["commits"]
        found = ended(replicator, commits[-1][0])
    acknowledged = found["acknowledged"]
    seqs = [seq for seq, _ in acknowledged]
    latencies = [(acknowledged[bisect_left(seqs, seq)][1] - at) / 1e6 for seq, at in commits]
    return latencies, Cost(**found["cost"])


def _shown(milliseconds: list[float]) -> str:
    cuts = statistics.quantiles(milliseconds, n=100)
    return " ".join(f"{cuts[percent - 1]:7.1f}" for percent in (50, 95, 99))


class Acknowledgements(Recorder):
    """An observer: when was which seq acknowledged?"""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []
        self.rounds = self.rows = 0

    def delivered(self, event: Delivered) -> None:
        self.rounds += 1
        self.rows += event.rows
        if event.mark is not None:
            self.seen.append((int(event.mark.watermark), time.time_ns()))


def replicate(arguments: Sequence[str], lines: IO[str]) -> None:
    """The replicator: says `ready` when it has caught up, and once its input ends what it acknowledged."""
    path, endpoint, way, niceness = arguments
    leave_pandas_out()  # as `cdc run` does
    if int(niceness):
        give_way(int(niceness))  # as `cdc run` does
    seen = Acknowledgements()
    with tempfile.TemporaryDirectory() as state, contextlib.ExitStack() as stack:
        source: DuckDbSource | ServedSource
        if way == "quack":
            source = stack.enter_context(open_served(path, TOKEN))
        else:
            source = stack.enter_context(open_source(path, tailing=way == "log"))
        target = stack.enter_context(open_target([parse_endpoint(endpoint)], TargetOptions(auto_create=True)))
        lease = stack.enter_context(Lease(Path(state), source.identity))
        marks = bind(stack.enter_context(open_store(Path(state))), source.identity, lease)
        (plan,) = resolve((), Defaults(), source.tables()).plans
        with source.snapshot() as snapshot:
            rows = snapshot.query("SELECT coalesce(max(seq), -1) FROM trades").read_all()
        pace = Pace(limits=BatchLimits(100_000, 32 << 20))
        replicator = Replicator(Ports(source, target, marks, seen), Policies(pace=pace))
        replicator.add(plan)
        _until(seen, rows.column(0)[0].as_py())
        time.sleep(REST_SECONDS)
        print("ready", flush=True)
        lines.readline()
        cpu, wall, rounds, sent = time.process_time(), time.monotonic(), seen.rounds, seen.rows
        last = lines.readline()
        if last:
            _until(seen, int(last))
        cost = Cost(
            time.process_time() - cpu, time.monotonic() - wall, seen.rounds - rounds, seen.rows - sent
        )
        print(json.dumps({"acknowledged": seen.seen, "cost": asdict(cost)}), flush=True)
        replicator.stop()
        replicator.join()


def _until(seen: Acknowledgements, seq: int) -> None:
    """Wait until `seq` is acknowledged."""
    deadline = time.monotonic() + 120
    while seq >= 0 and (not seen.seen or seen.seen[-1][0] < seq):
        failed = next((error for _, _, error in seen.states if error is not None), None)
        if failed is not None:
            raise failed
        if time.monotonic() > deadline:
            raise SystemExit(f"seq {seq} was not acknowledged within two minutes: {seen.seen[-1:]}")
        time.sleep(0.002)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--replicate", *rest]:
            replicate(rest, sys.stdin)
        case rest:
            sys.exit(main(rest))
