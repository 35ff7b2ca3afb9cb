"""How fast do 1,000,000 trades get from a DuckDB file into an acknowledged ReplacingMergeTree?

Each way runs in a process of its own, against the same server or an engine of its own, and is compared with
the ceiling measured in the same run: the same rows, encoded beforehand, and loaded by ClickHouse's own client
(for the embedded engine: read from a Native file). A naive script is measured beside it. With
`--source quack` a writer holds the file, serves it, and makes a checkpoint again and again; the copies of the
file and of what is served are measured beside each other.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import psutil

from cdc.change import BatchLimits, TablePlan
from cdc.cli.pandas_left_out import leave_pandas_out
from cdc.config.endpoint import Endpoint, parse_endpoint
from cdc.replicator.pace import Pace
from cdc.replicator.parts import Policies, Ports
from cdc.replicator.plan import resolve
from cdc.replicator.runner import Replicator
from cdc.source import DuckDbSource, open_source
from cdc.source.served import ServedSource, open_served
from cdc.state import Lease, open_store
from cdc.target import NativeBlock, TargetOptions, open_target
from cdc.target.quote import quote_identifier, quote_string
from cdc.watermark import bind
from tests.support.clickhouse import make_certificates, running_server
from tests.support.replication import Recorder
from tests.support.served import TOKEN, ServedWriter

TABLE = "trades"
BLOCK_ROWS = 100_000

_TRADES = """
CREATE TABLE trades AS SELECT
    uuid() AS trade_id, i::BIGINT AS seq, 'SYM' || (hash(i) % 500) AS symbol,
    CASE WHEN hash(i) % 2 = 0 THEN 'BUY' ELSE 'SELL' END AS side,
    ((hash(i) % 1000000) / 1000)::DECIMAL(18,6) AS price, (1 + hash(i + 1) % 10000)::BIGINT AS quantity,
    make_timestamp_ns(1760000000000000000 + i * 1000) AS executed_at
FROM range(1, ? + 1) rows(i)
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench throughput", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3, help="each way this many times; the median counts")
    parser.add_argument("--target", choices=("native", "http", "embedded", "all"), default="all")
    parser.add_argument("--skip-naive", action="store_true")
    parser.add_argument("--source", choices=("file", "quack"), default="file")
    options = parser.parse_args(arguments)
    options.address = ""
    with tempfile.TemporaryDirectory(prefix="cdc-bench-") as name:
        directory = Path(name)
        if options.source == "quack":
            return _served_copies(directory, options)
        _make_trades(directory / "trades.duckdb", options.rows)
        kinds = ("native", "http", "embedded") if options.target == "all" else (options.target,)
        print(f"{options.rows:,} trades, median of {options.runs} runs each")
        print(f"{'target':10} {'way':22} {'rows/s':>12} {'to ceiling':>11} {'peak MB':>8}")
        for kind in kinds:
            with contextlib.ExitStack() as stack:
                endpoint, port = _endpoint(kind, directory, stack)
                ways = ["ceiling", "cdc", *([] if options.skip_naive or kind != "native" else ["naive"])]
                found = {way: _measure(way, endpoint, port, directory, options) for way in ways}
                for way, (rate, peak_mb) in found.items():
                    ratio = rate / found["ceiling"][0]
                    print(f"{kind:10} {_TITLES[way]:22} {rate:12,.0f} {ratio:11.2f} {peak_mb:8.0f}")
    return 0


_TITLES = {
    "ceiling": "ceiling (pre-encoded)",
    "cdc": "cdc",
    "naive": "fetchall and execute",
    "quack": "cdc, over Quack",
}


def _served_copies(directory: Path, options: argparse.Namespace) -> int:
    """Both copies of one table into a server, while its writer makes checkpoints."""
    with contextlib.ExitStack() as stack:
        endpoint, port = _endpoint("native", directory, stack)
        path = directory / "trades.duckdb"
        writer = stack.enter_context(ServedWriter(path))
        writer.run(_TRADES, options.rows)
        writer.run("CREATE TABLE others (i BIGINT)")
        writer.run("CHECKPOINT")
        options.address = writer.address
        print(f"{options.rows:,} trades, median of {options.runs} runs each; the writer makes checkpoints")
        print(
            f"{'way':16} {'rows/s':>12} {'to file':>8} {'peak MB':>8} {'writer MB':>9} "
            f"{'checkpoints':>11} longest"
        )
        file_rate = 0.0
        for way in ("cdc", "quack"):
            with _checkpoints(writer) as seconds:
                rate, peak_mb = _measure(way, endpoint, port, directory, options)
            file_rate = file_rate or rate
            memory = psutil.Process(writer.process.pid).memory_info().rss >> 20
            print(
                f"{_TITLES[way]:16} {rate:12,.0f} {rate / file_rate:8.2f} {peak_mb:8.0f} {memory:9} "
                f"{len(seconds):11} {max(seconds):.2f} s"
            )
    return 0


@contextlib.contextmanager
def _checkpoints(writer: ServedWriter) -> Iterator[list[float]]:
    """How many seconds each commit with a checkpoint took; one after the other, with a rest between."""
    seconds: list[float] = []
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(0.2):
            started = time.perf_counter()
            writer.run("INSERT INTO others SELECT range FROM range(1000)")
            writer.run("CHECKPOINT")
            seconds.append(time.perf_counter() - started)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield seconds
    finally:
        ended.set()
        thread.join()


def _make_trades(path: Path, rows: int) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(_TRADES, [rows])
        connection.execute("CHECKPOINT")


def _endpoint(kind: str, directory: Path, stack: contextlib.ExitStack) -> tuple[str, int]:
    """Where rows go, less the database or directory of the run; and the server's native port."""
    if kind == "embedded":
        return f"chdb://{(directory / 'chdb').as_posix()}", 0
    place = directory / f"server-{kind}"
    place.mkdir()
    server = stack.enter_context(running_server(place, make_certificates(place)))
    scheme, port = ("clickhouse", server.native_port) if kind == "native" else ("http", server.http_port)
    return f"{scheme}://127.0.0.1:{port}", server.native_port


def _measure(
    way: str, endpoint: str, native_port: int, directory: Path, options: argparse.Namespace
) -> tuple[float, float]:
    """Median rows/s and greatest peak MB of some runs, each with a process and a database of its own."""
    rates, peaks = [], []
    for run in range(options.runs):
        where = f"{endpoint}-{way}-{run}" if endpoint.startswith("chdb") else f"{endpoint}/{way}_{run}"
        command = [sys.executable, "-m", "tools.bench_throughput", way, where, str(native_port)]
        done = subprocess.run(
            [*command, str(directory), str(options.rows), options.address],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{way} into {endpoint} failed:\n{done.stdout}{done.stderr}")
        result = json.loads(done.stdout.splitlines()[-1])
        rates.append(options.rows / result["seconds"])
        peaks.append(result["peak_mb"])
    return statistics.median(rates), max(peaks)


@dataclass(frozen=True, slots=True)
class Run:
    """Where one run takes its rows from, and where they go."""

    endpoint: Endpoint
    native_port: int
    directory: Path
    rows: int
    address: str
    """Where it is served; empty: nowhere."""

    @property
    def source(self) -> Path:
        return self.directory / "trades.duckdb"

    @property
    def database(self) -> str:
        return self.endpoint.database or "default"


def child(arguments: list[str]) -> None:
    """One run in this process: prints its seconds and peak memory as JSON."""
    leave_pandas_out()  # as `cdc run` does
    way, endpoint, native_port, directory, rows, address = arguments
    measured = {"ceiling": _ceiling, "cdc": _cdc, "naive": _naive, "quack": _cdc}[way]
    place = Path(directory)
    run = Run(parse_endpoint(endpoint), int(native_port), place, int(rows), address if way == "quack" else "")
    seconds = measured(run)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak_mb": peak_kb / 1024}))


def _opened(run: Run) -> DuckDbSource | ServedSource:
    return open_served(run.address, TOKEN) if run.address else open_source(run.source)


def _plan(source: DuckDbSource | ServedSource) -> TablePlan:
    class Defaults:
        key, watermark, version = ("trade_id",), "seq", None

    (plan,) = resolve((), Defaults(), source.tables()).plans
    return plan


def _cdc(run: Run) -> float:
    """The replicator itself, from opening the file to the last acknowledgement and its mark."""
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as state, contextlib.ExitStack() as stack:
        target = stack.enter_context(open_target([run.endpoint], TargetOptions(auto_create=True)))
        with _opened(run) as source:
            target.apply(_plan(source))  # the ceiling's table is there before its clock starts, too
            with source.snapshot() as snapshot:  # what DuckDB imports at its first Arrow result: 0.3 s
                snapshot.query("SELECT 1").read_all()
        started = time.perf_counter()
        source = _opened(run)
        stack.enter_context(source)
        lease = stack.enter_context(Lease(Path(state), source.identity))
        marks = bind(stack.enter_context(open_store(Path(state))), source.identity, lease)
        pace = Pace(limits=BatchLimits(BLOCK_ROWS, 32 << 20))
        replicator = Replicator(Ports(source, target, marks, recorder), Policies(pace=pace))
        replicator.add(_plan(source))
        done = threading.Event()
        while sum(event.rows for event in list(recorder.events)) < run.rows:
            done.wait(0.002)
            failed = next((error for _, _, error in recorder.states if error is not None), None)
            if failed is not None:
                raise failed
        seconds = time.perf_counter() - started
        replicator.stop()
        replicator.join()
    return seconds


def _encoded(run: Run) -> tuple[Path, str]:
    """The same rows as Native blocks in a file, and the INSERT that takes them; the table is made."""
    path = run.directory / f"blocks-{time.monotonic_ns()}.native"
    columns: list[str] = []
    with (
        open_source(run.source) as source,
        open_target([run.endpoint], TargetOptions(auto_create=True)) as target,
        path.open("wb") as file,
    ):
        plan = _plan(source)
        table, reader = target.open(plan), source.open(plan)
        for batch in reader.read(None, BatchLimits(BLOCK_ROWS, 1 << 30)):
            block = table.encode(batch).block
            assert isinstance(block, NativeBlock)
            columns = [column.name for column in block.columns]
            for part in block.body(0):
                file.write(part)
        reader.close()
        table.close()
    names = ", ".join(map(quote_identifier, columns))
    return path, f"INSERT INTO {quote_identifier(run.database)}.{quote_identifier(TABLE)} ({names})"


def _ceiling(run: Run) -> float:
    """ClickHouse's own client, or the embedded engine, loading blocks encoded before the clock starts."""
    path, insert = _encoded(run)
    if run.endpoint.kind == "embedded":
        from chdb.state import connect

        connection = connect(str(run.endpoint.path))
        started = time.perf_counter()
        connection.query(f"{insert} FROM INFILE {quote_string(str(path))} FORMAT Native", "Null")
        seconds = time.perf_counter() - started
        connection.close()
        return seconds
    command = ["clickhouse-client", "--host", "127.0.0.1", "--port", str(run.native_port)]
    with path.open("rb") as blocks:
        started = time.perf_counter()
        subprocess.run([*command, "--query", f"{insert} FORMAT Native"], stdin=blocks, check=True)
        return time.perf_counter() - started


def _naive(run: Run) -> float:
    """What a first script does: fetchall, and execute with the rows."""
    from clickhouse_driver import Client

    with (
        open_source(run.source) as source,
        open_target([run.endpoint], TargetOptions(auto_create=True)) as target,
    ):
        target.open(_plan(source)).close()
    client = Client("127.0.0.1", port=run.native_port, database=run.database)
    started = time.perf_counter()
    with duckdb.connect(str(run.source), read_only=True) as connection:
        found = connection.execute("SELECT *, seq FROM trades").fetchall()
    columns = "trade_id, seq, symbol, side, price, quantity, executed_at, _cdc_version"
    nanoseconds = [(*row[:6], _nanoseconds(row[6]), row[7]) for row in found]  # 18.16 has no DateTime64
    client.execute(f"INSERT INTO {TABLE} ({columns}) VALUES", nanoseconds)
    return time.perf_counter() - started


def _nanoseconds(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp()) * 10**9 + moment.microsecond * 1000


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in _TITLES:
        child(sys.argv[1:])
    else:
        sys.exit(main(sys.argv[1:]))
