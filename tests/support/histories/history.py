"""One history: what happens, in an order that the seed decides, and what is found at its end."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from cdc.source.format import frames
from cdc.source.format.log import parse_log_header
from tests.support.clickhouse import ClickHouseServer
from tests.support.histories.tables import KINDS, Kind
from tests.support.histories.warm import WarmReplica, WarmWriter, command
from tests.support.replica import Replica
from tests.support.writers import CURRENT, Writer, WriterError

EQUAL_SECONDS = 120.0
"""After so long what is not equal is not on its way any more. A busy machine makes it half of that."""
ROOT = Path(__file__).parents[3]
Rows = set[tuple[str | None, ...]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one history."""

    seed: int
    silent: dict[str, str]
    """Tables that differ although nobody was told, and how."""
    told: dict[str, str]
    """Tables that differ, with the alert that names them."""
    tables: int
    steps: tuple[str, ...]
    seconds: float
    log: str = ""
    happened: Counter[str] = field(default_factory=Counter)
    """How often each kind of trouble came."""

    @property
    def holds(self) -> bool:
        return not self.silent


@dataclass
class History:
    """A writer, its file, a replicator and a database of the target. `close` ends all of it."""

    directory: Path
    server: ClickHouseServer
    seed: int
    version: str = CURRENT
    tampering: bool = True
    cold: bool = True
    """Every process is started anew. Else they are forked from this one, which must have one thread."""
    broken: Callable[[], None] | None = None
    """Makes each replicator a worse one, in its own process; not where they are `cold`."""
    more: str = "[audit]\ncpu_percent = 50"
    """Lines of the configuration: for a difference that the audit alone can find, the time is short."""
    equal_seconds: float = EQUAL_SECONDS
    chosen: tuple[Kind, ...] = ()
    """The tables; as the seed decides when empty."""
    steps: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    """What came, in more detail than `steps`."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.real = self.directory / "data" / "h.duckdb"
        self.real.parent.mkdir()
        self.path = self.real
        if self.chance.random() < 0.15:
            self.path = self.directory / "link.duckdb"
            self.path.symlink_to(self.real)
            self.happened["symbolic link"] += 1
        self.database = f"history_{os.getpid()}_{self.seed}_{time.monotonic_ns()}"
        self.kinds = tuple(self.chance.sample(KINDS, self.chance.randint(2, len(KINDS))))
        self.kinds = self.chosen or self.kinds
        self.next_id = 1
        self.next_seq = 1
        self.added = 0
        self.backup: Path | None = None
        self.replica: Replica | None = None
        self.suspended = False
        self.open = False
        self.server.query(f"CREATE DATABASE {self.database}")
        self.config = self.directory / "cdc.toml"
        self._configure()
        self._start_writer()
        for kind in self.kinds:
            self.happened[f"table: {kind.name}"] += 1
            self._create(kind)
        self.run("CHECKPOINT")  # a log that is cut must not take the tables along

    # -- what happens -------------------------------------------------------------------------------------

    def play(self, steps: int) -> None:
        """Let `steps` things happen."""
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        moves, weights = zip(*self._moves(), strict=True)
        [move] = self.chance.choices(moves, weights)
        self.steps.append(move.__name__.removeprefix("_"))
        self.happened[self.steps[-1].replace("_", " ")] += 1
        move()
        if self.chance.random() < 0.3:
            time.sleep(self.chance.choice((0.01, 0.05, 0.3)))

    def _moves(self) -> Sequence[tuple[Callable[[], None], float]]:
        moves: list[tuple[Callable[[], None], float]] = [
            (self._change, 40.0),
            (self._transaction, 8.0),
            (self._empty, 2.5),
            (self._replace_all, 2.5),
            (self._drop_and_create, 1.0),
            (self._add_column, 0.7),
        ]
        if not self.open:
            moves += [
                (self._checkpoint, 5.0),
                (self._crash_writer, 2.0),
                (self._restart_writer, 1.5),
                (self._cut_log, 3.0),
                (self._back_up, 4.0),
                (self._restore, 4.0 if self.backup else 0.0),
            ]
        if self.replica is None:
            moves += [(self._start, 15.0)]
        elif self.suspended:
            moves += [(self._resume, 12.0)]
        else:
            moves += [
                (self._catch_up, 6.0),
                (self._stop, 4.0),
                (self._kill, 3.0),
                (self._suspend, 3.0),
            ]
        if self.tampering and not self.suspended:
            moves += [(self._tamper, 2.0), (self._resync, 2.0)]
        return moves

    def _change(self) -> None:
        self._change_one(self.chance.choice(self.kinds))

    def _change_one(self, kind: Kind) -> None:
        name, chance = _quoted(kind.name), self.chance
        every, rest = chance.randint(2, 9), chance.randint(0, 8)
        where = f"WHERE id % {every} = {rest}"
        mark = f", seq = seq + {self._seqs(1)}" if chance.random() < 0.5 else ""
        match chance.randrange(12 if kind.versioned else 10):
            case 0 | 1 | 2 | 3:
                rows = chance.choice((1, 1, 2, 5, 20, 300)) if chance.random() < 0.95 else 5000
                self._insert(kind, rows)
            case 4:
                self.run(f"UPDATE {name} SET a = a + {chance.randint(1, 99)}{mark} {where}")
            case 5:
                self.happened["rows enter and leave the filter"] += kind.shown != "TRUE"
                self.run(f"UPDATE {name} SET b = CASE b WHEN 'OUT' THEN 'in' ELSE 'OUT' END{mark} {where}")
            case 6:
                self.run(f"UPDATE {name} SET a = NULL, b = 'n'{mark} {where}")
            case 7 | 8:
                self.run(f"DELETE FROM {name} {where}")
            case 9:
                self.happened["keys changed in place"] += 1
                self.run(f"UPDATE {name} SET id = id + {10**6 + self._ids(1)}{mark} WHERE id < {every}")
            case 10:
                self.happened["version goes back"] += 1
                self.run(f"UPDATE {name} SET ver = ver - 3, a = coalesce(a, 0) + 1 {where}")
            case _:
                self.happened["version is NULL"] += 1
                self.run(f"UPDATE {name} SET ver = NULL, a = coalesce(a, 0) + 1 {where}")

    def _insert(self, kind: Kind, rows: int) -> None:
        first, seq = self._ids(rows), self._seqs(rows)
        late = self.chance.randint(0, min(20, seq - 1)) if self.chance.random() < 0.1 else 0
        ver = ", ver" if kind.versioned else ""
        self.run(
            f"INSERT INTO {_quoted(kind.name)} (id, seq, a, b{ver})"
            f" SELECT i, {seq - late - first} + i, i % 7, 'b' || i % 5{', i % 4' if ver else ''}"
            f" FROM range({first}, {first + rows}) AS r(i)"
        )

    def _transaction(self) -> None:
        self.run("BEGIN")
        self.open = True
        for _ in range(self.chance.randint(2, 5)):
            self._change()
        if self.open:
            self.run("ROLLBACK" if self.chance.random() < 0.25 else "COMMIT")
            self.open = False

    def _empty(self) -> None:
        kind = self.chance.choice(self.kinds)
        self.run(f"{self.chance.choice(('DELETE FROM', 'TRUNCATE'))} {_quoted(kind.name)}")

    def _replace_all(self) -> None:
        kind = self.chance.choice(self.kinds)
        [[count]] = self.run(f"SELECT count(*) FROM {_quoted(kind.name)}") or [["0"]]
        self.run(f"DELETE FROM {_quoted(kind.name)}")
        self._insert(kind, int(count or 0) or 1)

    def _drop_and_create(self) -> None:
        kind = self.chance.choice(self.kinds)
        self.run(f"CREATE OR REPLACE TABLE {_quoted(kind.name)} ({kind.ddl})")
        self._insert(kind, self.chance.randint(1, 50))

    def _add_column(self) -> None:
        self.added += 1
        kind = self.chance.choice(self.kinds)
        with suppress(WriterError):  # DuckDB refuses it where another object depends on the table
            default = self.chance.choice(("", " DEFAULT 7"))
            self.writer.run(f"ALTER TABLE {_quoted(kind.name)} ADD COLUMN more_{self.added} INTEGER{default}")

    def _checkpoint(self) -> None:
        self.run("CHECKPOINT")

    def _crash_writer(self) -> None:
        self.writer.kill()
        self._start_writer()

    def _restart_writer(self) -> None:
        self.writer.close()
        self._start_writer()

    def _cut_log(self) -> None:
        """The end of the log never reached the disk: on a frame's boundary, or within one."""
        self.writer.kill()
        log = self.real.with_name(self.real.name + ".wal")
        with suppress(FileNotFoundError):
            raw = log.read_bytes()
            header = parse_log_header(raw[:512])
            if header is not None and len(raw) > header.size:
                ends, at = [header.size], header.size
                for frame in frames.read_frames(raw, header.size):
                    at += len(frame)
                    ends.append(at)
                cut = self.chance.choice(ends[-30:])
                if self.chance.random() < 0.3:
                    cut = min(len(raw), cut + self.chance.randint(1, 40))
                os.truncate(log, cut)
        self._start_writer()

    def _back_up(self) -> None:
        self.backup = self.directory / "backup"
        shutil.rmtree(self.backup, ignore_errors=True)
        self.backup.mkdir()
        for file in self._files():
            shutil.copy2(file, self.backup)

    def _restore(self) -> None:
        """An older copy is put back, by copying over the files or in their places."""
        assert self.backup is not None
        self.writer.kill()
        for file in self._files():
            if self.chance.random() < 0.5:
                file.unlink()
        kept = {file.name for file in self.backup.iterdir()}
        for file in self._files():
            if file.name not in kept:
                file.unlink()
        for file in self.backup.iterdir():
            shutil.copy2(file, self.real.parent)
        self._start_writer()

    def _start(self) -> None:
        self.replica = (
            Replica(self.config, within=("env",)) if self.cold else WarmReplica(self.config, self.broken)
        )

    def _stop(self) -> None:
        assert self.replica is not None
        self.replica.stop()
        self._note_log()

    def _kill(self) -> None:
        assert self.replica is not None
        self.replica.kill()
        self._note_log()

    def _suspend(self) -> None:
        assert self.replica is not None
        self.replica.process.send_signal(signal.SIGSTOP)
        self.suspended = True

    def _resume(self) -> None:
        assert self.replica is not None
        self.replica.process.send_signal(signal.SIGCONT)
        self.suspended = False

    def _catch_up(self) -> None:
        """Give it time to be somewhere in particular."""
        deadline = time.monotonic() + self.chance.choice((0.2, 1.0, 3.0))
        while time.monotonic() < deadline and self._differences(self._live_rows):
            time.sleep(0.1)

    def _resync(self) -> None:
        kind = self.chance.choice(self.kinds)
        arguments = self.chance.choice((("resync", kind.name), ("watermark", "reset", kind.name)))
        self.steps[-1] += f"({kind.name})"
        force = ["--force"] if self.replica is not None else []
        if not self.cold:
            command(self.config, *arguments, "--yes", *force)
            return
        subprocess.run(
            [sys.executable, "-m", "cdc", "-c", str(self.config), *arguments, "--yes", *force],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,  # before the first start the store does not know the table
        )

    def _tamper(self) -> None:
        kind = self.chance.choice(self.kinds)
        name = f"{self.database}.{_target(kind)}"
        what, sql = self.chance.choice(
            (
                ("emptied", f"TRUNCATE TABLE {name}"),
                ("dropped", f"DROP TABLE {name}"),
                ("rows deleted", f"ALTER TABLE {name} DELETE WHERE id % 3 = 1"),
            )
        )
        with suppress(AssertionError):  # the table may not be there yet
            self.server.query(sql)
            self.happened[f"target: {what}"] += 1
            self.steps[-1] += f"({kind.name} {what})"

    # -- what is found ------------------------------------------------------------------------------------

    def end(self) -> tuple[dict[str, str], dict[str, str]]:
        """Let everything come to rest, with the file closed: what differs in silence, and what was told."""
        if self.open:
            self.run("COMMIT")
            self.open = False
        if self.suspended:
            self._resume()
        if self.replica is None or self.replica.process.poll() is not None:
            self._start()
        self.writer.close()
        rows = self._closed_rows()
        deadline = time.monotonic() + self.equal_seconds
        while (differ := self._differences(lambda: rows)) and time.monotonic() < deadline:
            if self.replica is None or self.replica.process.poll() is not None:
                self._start()  # as a service manager does
            time.sleep(0.1)
        told = self._alerts()
        self.happened["mended by the audit"] += sum(
            '"event": "audited"' in line and '"repaired"' in line for line in self.log().splitlines()
        )
        named = {name: told[name] for name in differ if name in told}
        return {name: how for name, how in differ.items() if name not in named}, named

    def close(self) -> None:
        if self.replica is not None:
            self.replica.process.send_signal(signal.SIGCONT)
            self.replica.kill()
        self.writer.kill()
        with suppress(AssertionError, OSError):
            self.server.query(f"DROP DATABASE {self.database}")

    def log(self) -> str:
        """What the replicators of this history said."""
        logs = sorted(self.directory.glob("replica-*.log"), key=lambda path: path.stat().st_mtime)
        return "\n".join(f"-- {path.name}\n{path.read_text(errors='replace')}" for path in logs)

    def _differences(self, source: Callable[[], dict[str, Rows]]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, wanted in source().items():
            kind = next(each for each in self.kinds if each.name == name)
            there = self._target_rows(kind)
            if there != wanted:
                lost, left = wanted - there, there - wanted
                found[name] = f"{len(lost)} missing {_few(lost)}, {len(left)} left over {_few(left)}"
        return found

    def _live_rows(self) -> dict[str, Rows]:
        return {kind.name: {tuple(row) for row in self.run(_select(kind))} for kind in self.kinds}

    def _closed_rows(self) -> dict[str, Rows]:
        with duckdb.connect(str(self.real), read_only=True) as connection:
            return {
                kind.name: {
                    tuple(None if value is None else str(value) for value in row)
                    for row in connection.execute(_select(kind)).fetchall()
                }
                for kind in self.kinds
            }

    def _target_rows(self, kind: Kind) -> Rows:
        columns = ", ".join("`" + name + "`" for name in kind.columns)
        sql = f"SELECT {columns} FROM {self.database}.{_target(kind)} FINAL WHERE _cdc_deleted = 0"
        try:
            answer = self.server.query(f"{sql} FORMAT JSONCompact")
        except AssertionError:
            return set()  # not there yet, or not any more
        return {
            tuple(None if value is None else str(value) for value in row)
            for row in json.loads(answer)["data"]
        }

    def _alerts(self) -> dict[str, str]:
        """The alerts that stand, and halted tables, by the table that they name."""
        status = json.loads((self.directory / "state" / "status.json").read_text())
        told = {
            each["subject"].removeprefix("main."): f"{each['name']}: {each['message']}"
            for each in status["alerts"]
        }
        for each in status["tables"]:
            if each["state"] == "failed":
                told[each["table"].removeprefix("main.")] = f"failed: {each['error']}"
        return told

    # -- what they need -----------------------------------------------------------------------------------

    def run(self, sql: str) -> list[list[str | None]]:
        """One statement of the writer; one that DuckDB refuses, such as a key that is there, ends its
        transaction."""
        try:
            return self.writer.run(sql)
        except WriterError:
            if self.open:
                self.open = False
                with suppress(WriterError):
                    self.writer.run("ROLLBACK")
            return []

    def _create(self, kind: Kind) -> None:
        self.run(f"CREATE TABLE {_quoted(kind.name)} ({kind.ddl})")
        self._insert(kind, self.chance.choice((1, 10, 500)))

    def _start_writer(self) -> None:
        self.writer = (Writer if self.cold else WarmWriter)(self.real, self.version, self._writer_config())

    def _writer_config(self) -> dict[str, str]:
        config = {}
        if self.chance.random() < 0.3:
            config["checkpoint_threshold"] = self.chance.choice(("16KB", "256KB"))
        if self.version == CURRENT and self.chance.random() < 0.2:
            config["auto_checkpoint_skip_wal_threshold"] = "200"
        return config

    def _files(self) -> list[Path]:
        names = (self.real.name, self.real.name + ".wal", self.real.name + ".wal.checkpoint")
        return [path for name in names if (path := self.real.with_name(name)).exists()]

    def _ids(self, count: int) -> int:
        first, self.next_id = self.next_id, self.next_id + count
        return first

    def _seqs(self, count: int) -> int:
        first, self.next_seq = self.next_seq, self.next_seq + count
        return first

    def _note_log(self) -> None:
        self.replica, self.suspended = None, False

    def _configure(self) -> None:
        tables = "\n".join(
            f'[[tables]]\nname = "{kind.name}"\nwatermark = "seq"\n{kind.config}' for kind in self.kinds
        )
        self.config.write_text(
            f"""
[database]
path = "{self.path}"
[state]
directory = "{self.directory / "state"}"
[performance]
priority = "normal"
[logging]
log_format = "json"
[sync]
clickhouse_endpoint = "clickhouse://127.0.0.1:{self.server.native_port}/{self.database}"
deletes = "replicate"
overlap_count = {self.chance.choice((0, 0, 100))}
[error_handling]
retry_first_ms = 100
retry_backoff_sec = [0.5, 1]
breaker_open_sec = 1
halted_sec = 0.5
[target]
auto_create = true
[metrics]
enabled = false
{self.more}
{tables}
"""
        )


def run_history(
    directory: Path, server: ClickHouseServer, seed: int, *, steps: int = 25, **options: Any
) -> Verdict:
    """One history from its beginning to its end; `options` of `History`."""
    began = time.monotonic()
    history = History(directory, server, seed, **options)
    try:
        history.play(steps)
        silent, told = history.end()
        log = history.log() if silent else ""
    finally:
        history.close()
    return Verdict(
        seed,
        silent,
        told,
        len(history.kinds),
        tuple(history.steps),
        time.monotonic() - began,
        log,
        history.happened,
    )


def _select(kind: Kind) -> str:
    columns = ", ".join(map(_quoted, kind.columns))
    return f"SELECT {columns} FROM {_quoted(kind.name)} WHERE {kind.shown}"


def _target(kind: Kind) -> str:
    return "`" + kind.name + "`"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _few(rows: Rows) -> str:
    return str(sorted(rows, key=str)[:3])
