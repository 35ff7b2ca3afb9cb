"""The reference writer trades as an engine does: durable commits, one lock, one configuration, clean stop."""

from __future__ import annotations

import ast
import signal
import sys
from pathlib import Path

import duckdb
import pytest

from tests.support.reference_writer import REFERENCE_WRITER, check_trades, read, run_writer, running_writer
from tests.support.waiting import wait_until
from tools.reference_writer import WriterError, load_settings, open_database, parse_options

TRADED = (
    "SELECT trade_id, seq, broker_id, symbol, side, quantity, filled, price, status FROM trades ORDER BY seq"
)


def write(database: Path, *options: object) -> None:
    done = run_writer("--path", database, "--rate", 0, *options)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_same_seed_writes_the_same_trades(tmp_path: Path) -> None:
    write(tmp_path / "one.duckdb", "--rows", 450, "--seed", 7)
    write(tmp_path / "two.duckdb", "--rows", 450, "--seed", 7)
    write(tmp_path / "other.duckdb", "--rows", 450, "--seed", 8)
    one, two, other = (read(tmp_path / f"{name}.duckdb", TRADED) for name in ("one", "two", "other"))
    assert one == two
    assert one != other
    assert {row[-1] for row in one} == {"NEW", "PARTIAL", "FILLED", "CANCELLED"}


def test_rows_are_committed_a_full_buffer_at_a_time(tmp_path: Path) -> None:
    """[W2]: the commit log has a line per transaction."""
    database, log = tmp_path / "trades.duckdb", tmp_path / "commits"
    write(database, "--rows", 250, "--commit-log", log)
    commits = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
    assert [(seq, rows) for seq, _, rows in commits] == [(100, 100), (200, 100), (250, 50)]
    ((newest,),) = read(database, "SELECT epoch_ns(max(executed_at)) FROM trades")
    assert newest <= commits[-1][1]
    assert check_trades(database) == 250


def test_every_trade_names_a_broker_that_exists(tmp_path: Path) -> None:
    database = tmp_path / "trades.duckdb"
    write(database, "--rows", 100)
    with pytest.raises(duckdb.ConstraintException, match="foreign key"):
        read(
            database, "INSERT INTO trades SELECT * REPLACE (uuid() AS trade_id, 99 AS broker_id) FROM trades"
        )


def test_without_keys_trades_has_no_index(tmp_path: Path) -> None:
    database = tmp_path / "trades.duckdb"
    write(database, "--rows", 300, "--no-primary-key")
    kinds = read(
        database, "SELECT DISTINCT constraint_type FROM duckdb_constraints() WHERE table_name = 'trades'"
    )
    assert kinds == [("NOT NULL",)]
    assert check_trades(database) == 300


def test_concurrent_late_commits_arrive_out_of_order_and_share_times(tmp_path: Path) -> None:
    database, log = tmp_path / "trades.duckdb", tmp_path / "commits"
    pace = ("--rows", 400, "--rows-per-commit", 10, "--threads", 4, "--late", 0.02, "--tick-us", 5000)
    write(database, *pace, "--commit-log", log)
    commits = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
    by_time = [seq for seq, _, _ in sorted(commits, key=lambda commit: commit[1])]
    assert by_time != sorted(by_time)
    assert check_trades(database) == 400
    assert read(database, "SELECT count(DISTINCT executed_at) < 100 FROM trades") == [(True,)]


def test_no_other_process_can_open_the_file_meanwhile(tmp_path: Path) -> None:
    database = tmp_path / "trades.duckdb"
    with running_writer(database, "--rate", 500) as writer:
        writer.wait_for_rows(100)
        with pytest.raises(duckdb.IOException, match="lock"):
            duckdb.connect(str(database), read_only=True)
        second = run_writer("--path", database)
    assert second.returncode == 1
    assert second.stderr.startswith(f"reference_writer: cannot open {database}: ")
    assert "Stop the process that holds it" in second.stderr


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(tmp_path: Path, signum: signal.Signals) -> None:
    database = tmp_path / "trades.duckdb"
    with running_writer(database, "--rate", 500) as writer:
        writer.wait_for_rows(100)
        assert writer.stop(signum) == 0
        beat = writer.heartbeat
    assert not Path(f"{database}.wal").exists()
    assert check_trades(database) == beat["rows"]


def test_killed_it_has_lost_nothing_committed_and_it_goes_on_from_there(tmp_path: Path) -> None:
    database = tmp_path / "trades.duckdb"
    with running_writer(database, "--rate", 0) as writer:
        writer.wait_for_rows(500)
        writer.kill()
        beat = writer.heartbeat
    before = check_trades(database)
    assert before >= beat["rows"]
    assert before % 100 == 0
    ((unfinished,),) = read(database, "SELECT count(*) FROM trades WHERE status IN ('NEW', 'PARTIAL')")
    write(database, "--rows", 100, "--updates", 20)
    assert check_trades(database) == before + 100
    ((left,),) = read(
        database, f"SELECT count(*) FROM trades WHERE status IN ('NEW', 'PARTIAL') AND seq <= {before}"
    )
    assert left < unfinished


def test_a_heartbeat_tells_what_is_committed(tmp_path: Path) -> None:
    with running_writer(tmp_path / "trades.duckdb", "--rate", 1000) as writer:
        writer.wait_for_rows(100)
        first = writer.heartbeat
        wait_until(lambda: writer.heartbeat["time"] > first["time"], "another beat")
        assert writer.heartbeat["pid"] == writer.process.pid
        assert writer.heartbeat["last_seq"] == writer.heartbeat["rows"]
        assert first["last_commit"] <= first["time"]


def config(tmp_path: Path, **changes: str) -> Path:
    """The shipped configuration in a folder of the test's own."""
    shipped = Path(__file__).parents[2] / "config" / "duckdb_rust_config.toml"
    text = shipped.read_text(encoding="utf-8").replace("C:/TradeSystem", tmp_path.as_posix())
    for old, new in changes.items():
        lines = [f"{old} = {new}" if line.startswith(f"{old} =") else line for line in text.splitlines()]
        text = "\n".join(lines)
    (tmp_path / "Data").mkdir(exist_ok=True)
    path = tmp_path / "writer.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_configuration_is_in_force(tmp_path: Path) -> None:
    """[W1] and [W3], as DuckDB itself says."""
    settings = load_settings(parse_options(["--config", str(config(tmp_path))]), {})
    with open_database(settings) as connection:
        names = (
            "threads",
            "memory_limit",
            "temp_directory",
            "checkpoint_threshold",
            "wal_autocheckpoint_entries",
        )
        values = [connection.execute(f"SELECT current_setting('{name}')").fetchall()[0][0] for name in names]
    assert values == [4, "244.1 MiB", f"{tmp_path.as_posix()}/Temp", "15.2 MiB", 5000]


def test_the_configured_database_and_log_are_used(tmp_path: Path) -> None:
    done = run_writer("--config", config(tmp_path), "--rows", 250, "--rate", 0)
    assert (done.returncode, done.stderr) == (0, "")
    database = tmp_path / "Data" / "trade_data.duckdb"
    assert check_trades(database) == 250
    log = (tmp_path / "Logs" / "duckdb_rust.log").read_text(encoding="utf-8")
    assert "250 rows and " in log
    assert " in 3 commits" in log


def test_a_log_past_its_bound_is_checkpointed_by_force(tmp_path: Path) -> None:
    """[W1]: DuckDB's own thresholds are far away, so the file grows only because the writer says so."""
    changes = {"max_wal_mb": "1", "checkpoint_threshold": '"1GB"', "wal_autocheckpoint_entries": "0"}
    database = tmp_path / "Data" / "trade_data.duckdb"
    with running_writer(database, "--config", config(tmp_path, **changes), "--rate", 0) as writer:
        writer.wait_for_rows(1)
        wait_until(lambda: database.stat().st_size > 1 << 20, "a checkpoint while it writes", seconds=60)
        assert writer.stop() == 0
    check_trades(database)


def test_the_environment_goes_before_the_file_and_the_options_before_both(tmp_path: Path) -> None:
    path, environ = str(config(tmp_path)), {"DUCKDB_PATH": "/from/environment", "DUCKDB_RUST_LOG": "/log"}
    settings = load_settings(parse_options(["--config", path]), environ)
    assert (settings.path, settings.log_path) == (Path("/from/environment"), "/log")
    settings = load_settings(parse_options(["--config", path, "--path", "/from/option"]), environ)
    assert settings.path == Path("/from/option")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[database]\npath = 'x'\nread_only = true", "read_only = true. Set it to false"),
        ("[database]\npaths = 'x'", r"\[database\] paths is unknown. Known: path, read_only"),
        ("[performance]\nmax_threads = 'all'", r"\[performance\] max_threads = 'all'. Give a whole number"),
        ("[performance]\nmax_threads = true", "max_threads = True. Give a whole number"),
        ("[wal]\nmax_wal_mb = -1", "max_wal_mb = -1. Give a whole number from 0 on"),
        ("[logging]\nlog_level = 'LOUD'", "log_level = 'LOUD'. Give one of TRACE, DEBUG, INFO, WARN, ERROR"),
        ("[perfomance]\nmax_threads = 4", r"\[perfomance\] is unknown"),
        ("[wal]", "no database. Give --path, --config or DUCKDB_PATH"),
        ("[wal", "cannot read"),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_remedy(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "writer.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WriterError, match=problem):
        load_settings(parse_options(["--config", str(path)]), {})


def test_a_missing_folder_and_a_foreign_file_are_refused_on_one_line(tmp_path: Path) -> None:
    missing = run_writer("--path", tmp_path / "nowhere" / "trades.duckdb")
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
    assert f"there is no folder {tmp_path / 'nowhere'}. Create it." in missing.stderr
    foreign = tmp_path / "letter.txt"
    foreign.write_text("Dear reader, " * 1000, encoding="utf-8")
    refused = run_writer("--path", foreign)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "Give a DuckDB database, or give another --path." in refused.stderr


def test_it_ends_when_it_cannot_beat_or_cannot_insert(tmp_path: Path) -> None:
    database = tmp_path / "trades.duckdb"
    mute = run_writer("--path", database, "--threads", 2, "--heartbeat", tmp_path / "nowhere" / "beat")
    assert (mute.returncode, "nowhere" in mute.stderr) == (1, True)
    read(database, "ALTER TABLE trades RENAME COLUMN symbol TO ticker")
    stuck = run_writer("--path", database, "--threads", 2, "--rate", 0)
    assert stuck.returncode == 1
    assert "cannot go on writing: " in stuck.stderr
    assert "What was committed is kept." in stuck.stderr


@pytest.mark.parametrize(
    "option", [("--rate", "-1"), ("--rows", "0"), ("--threads", "x"), ("--updates", "nan")]
)
def test_a_wrong_option_ends_it_with_2(option: tuple[str, str]) -> None:
    done = run_writer("--path", "unused.duckdb", *option)
    assert done.returncode == 2
    assert f"argument {option[0]}" in done.stderr


def test_it_needs_nothing_but_the_standard_library_and_duckdb() -> None:
    """It is shipped alone for the demo, and runs where only an old DuckDB is installed."""
    tree = ast.parse(Path(REFERENCE_WRITER[1]).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {"duckdb"}
