"""Who writes the DuckDB file that everything else reads: a process that trades, as a trade engine would.

It holds the file's lock, buffers 100 rows and commits them in one transaction [W2], moves orders from NEW
over PARTIAL to FILLED or CANCELLED, honours `config/duckdb_rust_config.toml` [W1, W3], beats a heartbeat, and
stops cleanly on SIGTERM, SIGINT and, on Windows, the event that CDC_STOP_EVENT names. With one connection,
everything but the times follows from the seed.

This file stands alone, with the standard library and duckdb only (1.0 and later): it is shipped for the demo,
and runs in environments where nothing else of the project is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import signal
import sys
import threading
import time
import tomllib
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

BROKERS = ("Aldgate", "Bourse", "Corvin", "Dorado", "Eastgate", "Fenwick", "Grauer", "Halden")
SYMBOLS = ("AAPL", "AMZN", "BTC-USD", "ETH-USD", "EUR/USD", "GOOG", "META", "MSFT", "NVDA", "SIE.DE")
OPEN_ORDERS = 10_000
"""Orders remembered as open; older ones stay as they are, like a limit order that nobody meets."""
BEAT_SECONDS = 1.0
IDLE_SECONDS = 0.25
"""No trader waits longer at a time, so that its signs of life outpace the heartbeat."""
LEVELS = {"TRACE": "DEBUG", "DEBUG": "DEBUG", "INFO": "INFO", "WARN": "WARNING", "ERROR": "ERROR"}
LOG = logging.getLogger("reference_writer")

# The sections a writer honours; [sync] and [error_handling] concern writers that send their own backups.
KEYS: dict[str, dict[str, Any]] = {
    "database": {"path": str, "read_only": bool},
    "performance": {"max_threads": int, "cache_size_mb": int, "temp_directory": str},
    "logging": {"log_level": str, "log_path": str},
    "wal": {"checkpoint_threshold": str, "wal_autocheckpoint_entries": int, "max_wal_mb": int},
}

# Before 1.1, DuckDB could only make a TIMESTAMP_NS of microseconds.
STAMP_OF_NS = "CREATE OR REPLACE TEMP MACRO stamp(ns) AS make_timestamp_ns(ns)"
STAMP_OF_US = "CREATE OR REPLACE TEMP MACRO stamp(ns) AS make_timestamp(ns // 1000)::TIMESTAMP_NS"
HAS_NS = "SELECT count(*) > 0 FROM duckdb_functions() WHERE function_name = 'make_timestamp_ns'"

BROKERS_TABLE = """CREATE TABLE IF NOT EXISTS brokers (
    broker_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, updated_at TIMESTAMP_NS NOT NULL)"""
TRADES_TABLE = """CREATE TABLE IF NOT EXISTS trades (
    trade_id UUID PRIMARY KEY, seq BIGINT NOT NULL, broker_id INTEGER NOT NULL REFERENCES brokers (broker_id),
    symbol VARCHAR NOT NULL, side VARCHAR NOT NULL, quantity BIGINT NOT NULL, filled BIGINT NOT NULL,
    price DECIMAL(18, 6) NOT NULL, status VARCHAR NOT NULL,
    executed_at TIMESTAMP_NS NOT NULL, updated_at TIMESTAMP_NS NOT NULL)"""
_UNIQUE_TRADES_TABLE = TRADES_TABLE.replace("REFERENCES brokers (broker_id)", "")
KEYLESS_TRADES_TABLE = _UNIQUE_TRADES_TABLE.replace("PRIMARY KEY", "NOT NULL")

OPEN = """SELECT trade_id::VARCHAR, seq, quantity, filled FROM trades
    WHERE status IN ('NEW', 'PARTIAL') AND seq % ? = ? ORDER BY seq DESC LIMIT ?"""
INSERT = """INSERT INTO trades (trade_id, seq, broker_id, symbol, side, quantity, filled, price, status,
        executed_at, updated_at)
    SELECT trade_id, nextval('trade_seq'), broker_id, symbol, side, quantity, 0,
        (price / 1000000)::DECIMAL(18, 6), 'NEW', stamp(ns), stamp(ns)
    FROM (SELECT unnest(?::UUID[]) AS trade_id, unnest(?::INTEGER[]) AS broker_id,
        unnest(?::VARCHAR[]) AS symbol, unnest(?::VARCHAR[]) AS side, unnest(?::BIGINT[]) AS quantity,
        unnest(?::BIGINT[]) AS price, unnest(?::BIGINT[]) AS ns)
    RETURNING seq"""
# The bounds of seq let DuckDB pass over row groups that hold none of these orders. Only columns without an
# index change: an indexed value is moved by deleting and inserting its row, which collides with its own key.
UPDATE = """UPDATE trades SET status = new.status, filled = new.filled, updated_at = stamp(new.ns)
    FROM (SELECT unnest(?::UUID[]) AS trade_id, unnest(?::VARCHAR[]) AS status, unnest(?::BIGINT[]) AS filled,
        unnest(?::BIGINT[]) AS ns) AS new
    WHERE trades.trade_id = new.trade_id AND seq BETWEEN ? AND ?"""


class WriterError(Exception):
    """What the writer cannot go on with; the text is one line for a person, with the remedy."""


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The options of these arguments, or of the command line; a wrong one ends the process with 2."""

    def bounded(kind: Callable[[str], float], low: float) -> Callable[[str], float]:
        def parse(text: str) -> float:
            value = kind(text)
            if not low <= value < float("inf"):
                raise argparse.ArgumentTypeError(f"{text} is not a number from {low} on")
            return value

        return parse

    count, share = bounded(int, 1), bounded(float, 0)
    options = argparse.ArgumentParser(prog="reference_writer", description="Trades into a DuckDB database.")
    options.add_argument("--path", type=Path, help="the database; before DUCKDB_PATH and the configuration")
    options.add_argument("--config", type=Path, help="a duckdb_rust_config.toml")
    options.add_argument("--rate", type=share, default=200.0, help="new rows per second, 0: no limit (200)")
    options.add_argument("--rows", type=count, help="stop after this many new rows (no limit)")
    options.add_argument("--rows-per-commit", type=count, default=100, help="size of the write buffer (100)")
    options.add_argument("--updates", type=share, default=0.5, help="updates for each new row (0.5)")
    options.add_argument("--seed", type=int, default=1, help="what the trades follow from (1)")
    options.add_argument("--duration", type=share, default=threading.TIMEOUT_MAX, help="seconds (no limit)")
    options.add_argument("--threads", type=count, default=1, help="connections that trade at once (1)")
    options.add_argument("--late", type=share, default=0.0, help="wait up to so long before a commit (0 s)")
    options.add_argument(
        "--tick-us", type=bounded(int, 0), default=0, help="round times down, so that they tie (0)"
    )
    options.add_argument("--no-primary-key", action="store_true", help="create trades without keys")
    options.add_argument("--serve", metavar="quack:HOST:PORT", help="serve the database (docs/quack.md)")
    options.add_argument(
        "--extension",
        type=Path,
        action="append",
        default=[],
        help="file of an extension to serve with; without one DuckDB's repository is asked",
    )
    options.add_argument("--heartbeat", type=Path, help="file replaced every second (DATABASE.heartbeat)")
    options.add_argument("--commit-log", type=Path, help="a line per commit: last seq, time_ns, rows")
    return options.parse_args(arguments)


@dataclass(frozen=True)
class Settings:
    """The keys of duckdb_rust_config.toml that concern a writer; None leaves DuckDB's own value."""

    path: Path
    max_threads: int | None = None
    cache_size_mb: int | None = None
    temp_directory: str | None = None
    log_level: str = "INFO"
    log_path: str | None = None
    checkpoint_threshold: str | None = None
    wal_autocheckpoint_entries: int | None = None
    max_wal_mb: int = 256


def load_settings(options: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The configuration file, under the environment (DUCKDB_PATH, DUCKDB_RUST_LOG), under the options.

    Raises:
        WriterError: the file cannot be read, a key is unknown or has a wrong value, or no path is given.
    """
    found: dict[str, Any] = {} if options.config is None else _read_config(options.config)
    if found.pop("read_only", False):
        raise WriterError(
            f"cannot write: {options.config} says [database] read_only = true. Set it to false."
        )
    overrides = {
        "path": options.path or environ.get("DUCKDB_PATH"),
        "log_path": environ.get("DUCKDB_RUST_LOG"),
    }
    found |= {key: value for key, value in overrides.items() if value}
    if "path" not in found:
        raise WriterError("cannot write: no database. Give --path, --config or DUCKDB_PATH.")
    return Settings(**found | {"path": Path(found["path"])})


def _read_config(config: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WriterError(f"cannot read {config}: {error}. Give a readable TOML file.") from error
    found: dict[str, Any] = {}
    for section in document.keys() - KEYS.keys() - {"sync", "error_handling"}:
        raise WriterError(f"cannot use {config}: [{section}] is unknown. Known: {', '.join(KEYS)}.")
    for section, keys in KEYS.items():
        for key, value in document.get(section, {}).items():
            kind = keys.get(key)
            if kind is None:
                raise WriterError(
                    f"cannot use {config}: [{section}] {key} is unknown. Known: {', '.join(keys)}."
                )
            if type(value) is not kind or (kind is int and value < 0):
                allowed = {bool: "true or false", int: "a whole number from 0 on", str: "a text"}[kind]
                raise WriterError(f"cannot use {config}: [{section}] {key} = {value!r}. Give {allowed}.")
            found[key] = value
    if (level := found.get("log_level", "INFO")) not in LEVELS:
        raise WriterError(
            f"cannot use {config}: [logging] log_level = {level!r}. Give one of {', '.join(LEVELS)}."
        )
    return found


@contextlib.contextmanager
def open_database(settings: Settings, *, unsigned: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """The database with the settings in force and its lock held; closed, and so checkpointed, at the end.

    Args:
        unsigned: allow extensions that are not of DuckDB's repository.

    Raises:
        WriterError: the folder is missing, another process holds the file, or it is not a DuckDB database.
    """
    if not settings.path.parent.is_dir():
        raise WriterError(
            f"cannot open {settings.path}: there is no folder {settings.path.parent}. Create it."
        )
    try:
        connection = duckdb.connect(
            str(settings.path), config={"allow_unsigned_extensions": "true"} if unsigned else {}
        )
    except duckdb.Error as error:
        held = "lock" in str(error) or "being used by another process" in str(error)
        remedy = "Stop the process that holds it" if held else "Give a DuckDB database"
        raise WriterError(
            f"cannot open {settings.path}: {_line(error)} {remedy}, or give another --path."
        ) from error
    with connection:
        _apply(connection, settings)
        yield connection


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _apply(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """SET what the configuration asks for; DuckDB calls the cache its memory limit."""
    wanted = {
        "threads": settings.max_threads,
        "memory_limit": None if settings.cache_size_mb is None else f"{settings.cache_size_mb}MB",
        "temp_directory": settings.temp_directory,
        "checkpoint_threshold": settings.checkpoint_threshold,
        "wal_autocheckpoint_entries": settings.wal_autocheckpoint_entries,
    }
    known = {name for (name,) in connection.execute("SELECT name FROM duckdb_settings()").fetchall()}
    for name, value in wanted.items():
        if value is None:
            continue
        if name not in known:
            LOG.warning("DuckDB %s has no setting %s: left out", duckdb.__version__, name)
            continue
        literal = str(value).replace("'", "''")
        try:
            connection.execute(f"SET {name} = '{literal}'")
        except duckdb.Error as error:
            raise WriterError(
                f"cannot set {name} to {value}: {_line(error)} Correct the configuration."
            ) from error


def serve(
    connection: duckdb.DuckDBPyConnection,
    address: str,
    extensions: Sequence[Path],
    environ: Mapping[str, str],
) -> None:
    """Serve the database over DuckDB's protocol Quack; the token is in the environment (DUCKDB_QUACK_TOKEN).

    Raises:
        WriterError: there is no token, an extension cannot be loaded, or the address cannot be served at.
    """
    token = environ.get("DUCKDB_QUACK_TOKEN")
    if not token:
        raise WriterError(f"cannot serve {address}: there is no token. Set DUCKDB_QUACK_TOKEN.")
    loads = [f"LOAD {_literal(file)}" for file in extensions]
    loads = loads or [f"{verb} {name}" for name in ("httpfs", "quack") for verb in ("INSTALL", "LOAD")]
    try:
        for load in loads:
            connection.execute(load)
        connection.execute(f"CALL quack_serve({_literal(address)}, token = {_literal(token)})").fetchall()
    except duckdb.Error as error:
        problem = _line(error).replace(token, "***")
        raise WriterError(
            f"cannot serve {address}: {problem} Give another --serve, or the files of quack and httpfs for "
            f"DuckDB {duckdb.__version__} with --extension."
        ) from None


def _literal(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def create_tables(connection: duckdb.DuckDBPyConnection, *, keys: bool) -> None:
    """Create brokers and trades unless they are there; without keys there are no indexes on trades."""
    _define_stamp(connection)
    connection.execute("BEGIN")
    connection.execute(BROKERS_TABLE)
    connection.execute("CREATE SEQUENCE IF NOT EXISTS trade_seq")
    connection.execute(TRADES_TABLE if keys else KEYLESS_TRADES_TABLE)
    if connection.execute("SELECT count(*) FROM brokers").fetchall() == [(0,)]:
        rows = [(number, name, time.time_ns()) for number, name in enumerate(BROKERS, start=1)]
        connection.executemany("INSERT INTO brokers VALUES (?, ?, stamp(?))", rows)
    connection.execute("COMMIT")


def _define_stamp(connection: duckdb.DuckDBPyConnection) -> None:
    has_ns = connection.execute(HAS_NS).fetchall() == [(True,)]
    connection.execute(STAMP_OF_NS if has_ns else STAMP_OF_US)


class Order(NamedTuple):
    """An order that is not yet complete."""

    trade_id: str
    seq: int
    quantity: int
    filled: int


class Commit(NamedTuple):
    """What one COMMIT made durable, and when it had returned (nanoseconds since 1970)."""

    seq: int
    rows: int
    updated: int
    time_ns: int


class Trader:
    """One connection that trades: it fills its buffer at a given rate, and commits it in one transaction."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        options: argparse.Namespace,
        number: int,
        stop: threading.Event,
    ) -> None:
        _define_stamp(connection)
        self._connection = connection
        self._options = options
        self._tick_ns = max(1, options.tick_us * 1000)
        self._stop = stop
        self.turns = 0
        """How often this trader has shown that it is alive."""
        self.finished = False
        # A writer that is started again goes on with other ids than those that are in the table.
        last = connection.execute("SELECT coalesce(max(seq), 0) FROM trades").fetchall()[0][0]
        self._random = random.Random(f"{options.seed}/{number}/{last}")
        rows = connection.execute(OPEN, [options.threads, number, OPEN_ORDERS]).fetchall()
        self._open = deque((Order(*row) for row in reversed(rows)), maxlen=OPEN_ORDERS)
        self._left = None
        if options.rows is not None:
            self._left = options.rows // options.threads + (number < options.rows % options.threads)

    def trade(self) -> Iterator[Commit]:
        """Commit after commit until the rows are written or stop is set; rows that have arrived are kept."""
        rate = self._options.rate / self._options.threads
        started, done = time.monotonic(), 0
        while self._left is None or done < self._left:
            count = self._options.rows_per_commit
            count = count if self._left is None else min(count, self._left - done)
            if rate and not self._wait_until(started + (done + count) / rate):
                count = max(0, min(count, int((time.monotonic() - started) * rate) - done))
            if count:
                yield self._commit(count)
            if self._stop.is_set():
                return
            done += count
            self.turns += 1

    def _wait_until(self, due: float) -> bool:
        """Wait for the time when the buffer is full; False when stop was set before."""
        while (left := due - time.monotonic()) > 0:
            self.turns += 1
            if self._stop.wait(min(left, IDLE_SECONDS)):
                return False
        return True

    def _commit(self, count: int) -> Commit:
        draw = self._random
        ids = [str(uuid.UUID(int=draw.getrandbits(128), version=4)) for _ in range(count)]
        quantities = [draw.randrange(1, 10_000) for _ in ids]
        columns = [
            ids,
            [draw.randrange(len(BROKERS)) + 1 for _ in ids],
            [draw.choice(SYMBOLS) for _ in ids],
            [draw.choice(("BUY", "SELL")) for _ in ids],
            quantities,
            [draw.randrange(10_000, 10**11) for _ in ids],
            self._times(count),
        ]
        self._connection.execute("BEGIN")
        seqs = [seq for (seq,) in self._connection.execute(INSERT, columns).fetchall()]
        updated = self._move_orders(round(count * self._options.updates))
        if self._options.late:
            self._stop.wait(draw.uniform(0, self._options.late))
        self._connection.execute("COMMIT")
        committed = time.time_ns()
        self._open.extend(map(Order, ids, seqs, quantities, [0] * count))
        return Commit(max(seqs), count, updated, committed)

    def _move_orders(self, count: int) -> int:
        """Fill some open orders in full, some in part, cancel a few; how many rows DuckDB says it updated."""
        draw = self._random
        moved: list[tuple[Order, str]] = []
        for _ in range(min(count, len(self._open))):
            self._open.rotate(-draw.randrange(8))
            order = self._open.popleft()
            fate, part = draw.random(), draw.randrange(order.quantity - order.filled)
            if fate < 0.1:
                moved.append((order, "CANCELLED"))
            elif fate < 0.6 or part == 0:
                moved.append((order._replace(filled=order.quantity), "FILLED"))
            else:
                moved.append((order._replace(filled=order.filled + part), "PARTIAL"))
        if not moved:
            return 0
        seqs = [order.seq for order, _ in moved]
        columns = [[order.trade_id for order, _ in moved], [status for _, status in moved]]
        times = self._times(len(moved))
        bound = [*columns, [order.filled for order, _ in moved], times, min(seqs), max(seqs)]
        updated = self._connection.execute(UPDATE, bound).fetchall()[0][0]
        self._open.extend(order for order, status in moved if status == "PARTIAL")
        return int(updated)

    def _times(self, count: int) -> list[int]:
        now = time.time_ns()
        return [ns - ns % self._tick_ns for ns in range(now, now + count)]


class Desk:
    """All traders of one database, each in its own thread, what they committed, and their heartbeat."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, settings: Settings, options: argparse.Namespace
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._heartbeat = options.heartbeat or Path(f"{settings.path}.heartbeat")
        self._commit_log = options.commit_log
        self._end = time.monotonic() + options.duration
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._failures: list[Exception] = []
        self._traders = [Trader(connection.cursor(), options, n, self._stop) for n in range(options.threads)]
        self.rows = self.updated = self.commits = 0
        self._last = Commit(0, 0, 0, 0)

    def stop(self, *_signal: object) -> None:
        """End the trading; also a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Trade until the rows are written, the duration is over, or stop is called.

        Raises:
            WriterError: a transaction failed.
        """
        with contextlib.ExitStack() as stack:
            path = self._commit_log
            log = stack.enter_context(path.open("a", 1, encoding="utf-8")) if path else None
            for trader in self._traders:
                thread = threading.Thread(target=self._trade, args=(trader, log))
                thread.start()
                stack.callback(thread.join)
            stack.callback(self._stop.set)
            self._watch()
        self._beat()
        if self._failures:
            raise WriterError(f"cannot go on writing: {_line(self._failures[0])} What was committed is kept.")

    def _watch(self) -> None:
        seen = [-1] * len(self._traders)
        while not self._stop.is_set():
            turns = [trader.turns for trader in self._traders]
            # A trader that hangs stops the heartbeat: a beat says that work goes on, not that a process is.
            if all(turns[n] != seen[n] or trader.finished for n, trader in enumerate(self._traders)):
                self._beat()
                seen = turns
            self._bound_wal()
            self._stop.wait(min(BEAT_SECONDS, max(0.0, self._end - time.monotonic())))
            if time.monotonic() >= self._end:
                self._stop.set()

    def _trade(self, trader: Trader, log: Any) -> None:
        try:
            for commit in trader.trade():
                with self._lock:
                    self.rows += commit.rows
                    self.updated += commit.updated
                    self.commits += 1
                    self._last = commit
                    if log is not None:
                        log.write(f"{commit.seq} {commit.time_ns} {commit.rows}\n")
            trader.finished = True
        except (duckdb.Error, OSError) as error:
            self._failures.append(error)
        finally:
            if not trader.finished or all(each.finished for each in self._traders):
                self._stop.set()

    def _beat(self) -> None:
        """Replace the heartbeat file in one step; times are seconds since 1970."""
        with self._lock:
            state = {"pid": os.getpid(), "time": time.time(), "rows": self.rows, "updated": self.updated}
            last = {"last_seq": self._last.seq, "last_commit": self._last.time_ns / 1e9}
            state |= {"commits": self.commits} | last
        fresh = Path(f"{self._heartbeat}.new")
        fresh.write_text(json.dumps(state) + "\n", encoding="utf-8")
        os.replace(fresh, self._heartbeat)

    def _bound_wal(self) -> None:
        """Checkpoint when the log has outgrown its bound, as it does while DuckDB finds no quiet moment."""
        wal = Path(f"{self._settings.path}.wal")
        try:
            if wal.stat().st_size <= self._settings.max_wal_mb << 20:
                return
            self._connection.execute("CHECKPOINT")
        except FileNotFoundError:
            return  # a checkpoint has just taken it away
        except duckdb.TransactionException as error:
            LOG.warning("the log is past its bound: %s", _line(error))


def listen(told: Callable[[], None], environ: Mapping[str, str]) -> None:
    """Call `told` once the event is set that the environment names: Windows has no signal to end with."""
    name = environ.get("CDC_STOP_EVENT")
    if os.name != "nt" or name is None:
        return
    import ctypes

    kernel: Any = ctypes.CDLL("kernel32")
    kernel.CreateEventW.restype = ctypes.c_void_p
    event = ctypes.c_void_p(kernel.CreateEventW(None, True, False, name))
    if event.value is None:
        raise WriterError(
            f"cannot make the event {name}, by which it would be stopped. Correct CDC_STOP_EVENT."
        )

    def wait() -> None:
        kernel.WaitForSingleObject(event, -1)
        told()

    threading.Thread(target=wait, daemon=True).start()


def log_to(settings: Settings) -> None:
    """Send the log to log_path, else to stderr, in UTC.

    Raises:
        WriterError: log_path cannot be written.
    """
    handler: logging.Handler = logging.StreamHandler()
    if settings.log_path is not None:
        try:
            Path(settings.log_path).parent.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(settings.log_path, encoding="utf-8")
        except OSError as error:
            raise WriterError(f"cannot log to {settings.log_path}: {error}. Correct log_path.") from error
    logging.Formatter.converter = time.gmtime
    handler.setFormatter(logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    LOG.addHandler(handler)
    LOG.setLevel(LEVELS[settings.log_level])


def main(arguments: list[str] | None = None) -> int:
    """Write until told to stop; 0, or 1 after an error that stderr says in one line."""
    options = parse_options(arguments)
    try:
        settings = load_settings(options, os.environ)
        log_to(settings)
        with open_database(settings, unsigned=bool(options.extension)) as connection:
            create_tables(connection, keys=not options.no_primary_key)
            if options.serve is not None:
                serve(connection, options.serve, options.extension, os.environ)
            desk = Desk(connection, settings, options)
            for name in {"SIGTERM", "SIGINT", "SIGBREAK"} & {each.name for each in signal.Signals}:
                signal.signal(signal.Signals[name], desk.stop)
            listen(desk.stop, os.environ)
            LOG.info("DuckDB %s writes %s as process %d", duckdb.__version__, settings.path, os.getpid())
            desk.run()
            LOG.info("%d rows and %d updates in %d commits", desk.rows, desk.updated, desk.commits)
    except (WriterError, duckdb.Error, OSError) as error:
        print(f"reference_writer: {_line(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
