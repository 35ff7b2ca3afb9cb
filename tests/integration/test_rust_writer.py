"""The Rust writer does the reference writer's job: the same tables, durable commits, one lock. [W4]"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import duckdb
import pytest

from cdc.source import open_source
from tests.support.reference_writer import IMPOSSIBLE, check_trades, read, run_writer, running_writer
from tests.support.rust_writer import rust_writer_binary
from tests.support.waiting import wait_until
from tools.rust_writer.build import BuildError, build, cargo, fetch_library

__all__ = ["rust_writer_binary"]


COLUMNS = "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() ORDER BY ALL"
CONSTRAINTS = "SELECT table_name, constraint_text FROM duckdb_constraints() ORDER BY ALL"
TRADED = (
    "SELECT trade_id, seq, broker_id, symbol, side, quantity, filled, price, status FROM trades ORDER BY seq"
)


def write(binary: Path, database: Path, *options: object) -> None:
    done = run_writer("--path", database, "--rate", 0, *options, command=[str(binary)])
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_its_own_tests_pass(rust_writer_binary: Path) -> None:
    cargo(["test", "--locked", "--jobs", "2", "--quiet"])


def test_it_is_formatted_and_clippy_finds_nothing(rust_writer_binary: Path) -> None:
    cargo(["fmt", "--check"])
    cargo(["clippy", "--locked", "--jobs", "2", "--quiet", "--all-targets", "--", "--deny", "warnings"])


@pytest.mark.parametrize("missing", ["cargo", "npm"])
def test_without_cargo_or_npm_the_build_says_what_to_install(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"cargo": "/bin/cargo", "npm": "/bin/npm"} | {missing: None}
    monkeypatch.setattr(shutil, "which", found.get)
    monkeypatch.setenv("CDC_TEST_CACHE", str(tmp_path))
    with pytest.raises(BuildError, match=rf"{missing} is not installed. Install"):
        build()


def test_a_library_with_another_checksum_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho something else > package.tgz\n", encoding="utf-8")
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", {"npm": str(npm)}.get)
    with pytest.raises(BuildError, match="its checksum is wrong"):
        fetch_library(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_it_creates_the_tables_of_the_reference_writer(rust_writer_binary: Path, tmp_path: Path) -> None:
    rust, python = tmp_path / "rust.duckdb", tmp_path / "python.duckdb"
    write(rust_writer_binary, rust, "--rows", 100)
    assert run_writer("--path", python, "--rows", 100, "--rate", 0).returncode == 0
    for sql in (COLUMNS, CONSTRAINTS, "SELECT broker_id, name FROM brokers ORDER BY ALL"):
        assert read(rust, sql) == read(python, sql)


def test_what_it_writes_reads_back_equal(rust_writer_binary: Path, tmp_path: Path) -> None:
    """The ids are UUIDs of version 4, the times have nanoseconds, the rows are those of the seed."""
    one, two = tmp_path / "one.duckdb", tmp_path / "two.duckdb"
    write(rust_writer_binary, one, "--rows", 450, "--seed", 7)
    write(rust_writer_binary, two, "--rows", 450, "--seed", 7)
    assert check_trades(one) == 450
    trades = read(one, TRADED)
    assert trades == read(two, TRADED)
    assert {trade[0].version for trade in trades} == {4}
    assert {trade[-1] for trade in trades} == {"NEW", "PARTIAL", "FILLED", "CANCELLED"}
    assert read(one, "SELECT count(*) > 0 FROM trades WHERE epoch_ns(executed_at) % 1000 <> 0") == [(True,)]


def test_the_two_writers_go_on_with_each_others_database(rust_writer_binary: Path, tmp_path: Path) -> None:
    database = tmp_path / "trades.duckdb"
    write(rust_writer_binary, database, "--rows", 300)
    assert run_writer("--path", database, "--rows", 300, "--rate", 0).returncode == 0
    assert check_trades(database) == 600
    assert read(database, "SELECT max(seq) FROM trades") == [(600,)]


def test_no_other_process_can_open_the_file_meanwhile(rust_writer_binary: Path, tmp_path: Path) -> None:
    database, command = tmp_path / "trades.duckdb", [str(rust_writer_binary)]
    with running_writer(database, "--rate", 500, command=command) as writer:
        writer.wait_for_rows(100)
        with pytest.raises(duckdb.IOException, match="lock"):
            duckdb.connect(str(database), read_only=True)
        second = run_writer("--path", database, command=command)
    assert second.returncode == 1
    assert second.stderr.startswith(f"rust_writer: cannot open {database}: ")
    assert "Stop the process that holds it" in second.stderr


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(rust_writer_binary: Path, tmp_path: Path, signum: signal.Signals) -> None:
    database = tmp_path / "trades.duckdb"
    with running_writer(database, "--rate", 500, command=[str(rust_writer_binary)]) as writer:
        writer.wait_for_rows(100)
        assert writer.stop(signum) == 0
        beat = writer.heartbeat
    assert not Path(f"{database}.wal").exists()
    assert check_trades(database) == beat["rows"]


def test_killed_it_has_lost_nothing_committed_and_it_goes_on_from_there(
    rust_writer_binary: Path, tmp_path: Path
) -> None:
    database = tmp_path / "trades.duckdb"
    with running_writer(database, "--rate", 0, command=[str(rust_writer_binary)]) as writer:
        writer.wait_for_rows(500)
        writer.kill()
        beat = writer.heartbeat
    write(rust_writer_binary, database, "--rows", 100)
    count = check_trades(database)
    assert count >= beat["rows"] + 100
    assert count % 100 == 0


def test_a_snapshot_of_the_running_writer_holds_whole_commits(
    rust_writer_binary: Path, tmp_path: Path
) -> None:
    """[F2]: its DuckDB is another release than the one that reads here."""
    database = tmp_path / "trades.duckdb"
    with running_writer(database, "--rate", 0, command=[str(rust_writer_binary)]) as writer:
        writer.wait_for_rows(500)
        with open_source(database) as source, source.snapshot() as snapshot:
            impossible = snapshot.query(f"SELECT count(*) AS n FROM ({IMPOSSIBLE})").read_all()
            rows = snapshot.query("SELECT count(*) AS n, max(seq) AS last FROM trades").read_all()
    assert impossible["n"].to_pylist() == [0]
    assert rows["n"].to_pylist() == rows["last"].to_pylist()
    assert rows["n"][0].as_py() % 100 == 0


def test_a_heartbeat_tells_what_is_committed(rust_writer_binary: Path, tmp_path: Path) -> None:
    command = [str(rust_writer_binary)]
    with running_writer(tmp_path / "trades.duckdb", "--rate", 1000, command=command) as writer:
        writer.wait_for_rows(100)
        first = writer.heartbeat
        wait_until(lambda: writer.heartbeat["time"] > first["time"], "another beat")
        assert writer.heartbeat["pid"] == writer.process.pid
        assert writer.heartbeat["last_seq"] == writer.heartbeat["rows"]
        assert first["last_commit"] <= first["time"]


CONFIG = """[database]
path = "{folder}/trades.duckdb"
[performance]
max_threads = 1
cache_size_mb = 64
temp_directory = "{folder}/temp"
[logging]
log_level = "INFO"
log_path = "{folder}/logs/writer.log"
[wal]
checkpoint_threshold = "1GB"
wal_autocheckpoint_entries = 0
max_wal_mb = 1
"""


def test_it_honours_the_configuration(rust_writer_binary: Path, tmp_path: Path) -> None:
    """[W1] and [W3]: DuckDB's own thresholds are far away, so it is the writer that checkpoints."""
    config, database = tmp_path / "writer.toml", tmp_path / "trades.duckdb"
    config.write_text(CONFIG.format(folder=tmp_path.as_posix()), encoding="utf-8")
    command = [str(rust_writer_binary), "--config", str(config)]
    with running_writer(database, "--rate", 0, command=command) as writer:
        writer.wait_for_rows(100)
        wait_until(lambda: database.stat().st_size > 1 << 20, "a checkpoint while it writes", seconds=60)
        assert writer.stop() == 0
        rows = writer.heartbeat["rows"]
    assert check_trades(database) == rows
    assert f"{rows} rows and " in (tmp_path / "logs" / "writer.log").read_text(encoding="utf-8")


def test_the_environment_goes_before_the_file(rust_writer_binary: Path, tmp_path: Path) -> None:
    config = tmp_path / "writer.toml"
    config.write_text(CONFIG.format(folder=tmp_path.as_posix()), encoding="utf-8")
    database = tmp_path / "other.duckdb"
    done = run_writer(
        *("--config", config, "--rows", 100, "--rate", 0),
        command=[str(rust_writer_binary)],
        DUCKDB_PATH=str(database),
        DUCKDB_RUST_LOG=str(tmp_path / "other.log"),
    )
    assert done.returncode == 0, done.stderr
    assert check_trades(database) == 100
    assert (tmp_path / "other.log").exists()
    assert not (tmp_path / "trades.duckdb").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[database]\npath = 'x'\nread_only = true", "read_only = true. Set it to false"),
        ("[database]\npaths = 'x'", "line 2: unknown field `paths`"),
        ("[performance]\nmax_threads = 'all'", "line 2: invalid type"),
        ("[logging]\nlog_level = 'LOUD'", "line 2: unknown variant `LOUD`"),
        ("[perfomance]\nmax_threads = 4", "unknown field `perfomance`"),
        ("[wal]", "no database. Give --path, --config or DUCKDB_PATH"),
        ("[database]\npath = 'nowhere/trades.duckdb'", "its folder does not exist. Create it."),
        ("[database]\npath = 'writer.toml'", "Give a DuckDB database, or give another --path."),
    ],
)
def test_what_cannot_work_is_refused_on_one_line_with_the_remedy(
    rust_writer_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("writer.toml").write_text(text + "\n" + "# a comment, to be longer than a header\n" * 500)
    done = run_writer("--config", "writer.toml", command=[str(rust_writer_binary)])
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert problem in done.stderr


def test_a_wrong_option_ends_it_with_2(rust_writer_binary: Path) -> None:
    done = run_writer("--rate", "-1", command=[str(rust_writer_binary)])
    assert done.returncode == 2
    assert "--rate" in done.stderr
