"""`cdc status`: of a replicator that runs, that ended, and that never was."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner, Result

from cdc.change import Mark, TableId
from cdc.cli import build_app
from cdc.config import load
from cdc.errors import ExitCode, StateError
from cdc.observe.status import LeftOutTable, Status, TableStatus, write_status
from cdc.state import open_store

NOW = datetime.now(UTC)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(
        f'[database]\npath = "{(tmp_path / "t.duckdb").as_posix()}"\n'
        '[sync]\nclickhouse_endpoint = "http://localhost"\n'
    )
    (tmp_path / "t.duckdb.cdc").mkdir()
    return path


def trades(**values: object) -> TableStatus:
    known = {"table": "main.trades", "target": "trades", "state": "running", "since": NOW}
    return TableStatus.model_validate(known | values)


def written(config: Path, *tables: TableStatus, **values: object) -> None:
    known: dict[str, object] = {
        "state": "running",
        "version": "0.1.0",
        "pid": os.getpid(),
        "process_start": psutil.Process().create_time(),
        "started_at": NOW,
        "updated_at": datetime.now(UTC),
        "config": str(config),
        "source": "t.duckdb",
        "targets": ["http://localhost:8123"],
        "tables": tables,
    }
    write_status(load(config, {}).status_path, Status.model_validate(known | values))


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        build_app(),
        ["-c", str(config), "status", *arguments],
        env={"DUCKDB_PATH": "", "CLICKHOUSE_ENDPOINT": ""},
    )


def test_a_replicator_that_runs_well_is_exit_code_0(config: Path) -> None:
    written(
        config, trades(rows=1234567, watermark="99", rows_behind=0, lag_seconds=0.0123, last_cycle_at=NOW)
    )
    result = run(config)
    assert result.exit_code == ExitCode.OK.value
    head, source, target, headings, row = result.stdout.splitlines()
    assert head.startswith(f"replicator  running (pid {os.getpid()}, reported ")
    assert source == "source      t.duckdb"
    assert target == "target      http://localhost:8123  breaker closed"
    assert headings.split()[:4] == ["table", "state", "rows", "behind"]
    assert row.split()[:8] == ["main.trades", "running", "1,234,567", "0", "12", "ms", "0", "99"]


def test_a_version_that_was_not_tested_is_a_line(config: Path) -> None:
    written(config, trades(rows_behind=0), self_test="passed", untested=("DuckDB 2.9.0 was not tested",))
    result = run(config)
    assert result.exit_code == ExitCode.OK.value
    assert "untested    DuckDB 2.9.0 was not tested" in result.stdout.splitlines()


def test_what_is_unknown_is_not_shown_as_nothing(config: Path) -> None:
    written(config, trades(state="snapshot"))
    assert run(config).stdout.splitlines()[4].split() == [
        "main.trades",
        "snapshot",
        "0",
        "?",
        "-",
        "0",
        "-",
        "-",
    ]


@pytest.mark.parametrize("state", ["failed", "paused"])
def test_a_table_that_is_not_well_is_exit_code_1_with_its_error(config: Path, state: str) -> None:
    written(config, trades(state=state, error="cannot insert: refused. Start the server"))
    result = run(config)
    assert result.exit_code == ExitCode.FAILED.value
    assert f"not well: main.trades: {state}: cannot insert: refused. Start the server" in result.stdout


def test_tables_left_out_are_named(config: Path) -> None:
    written(config, left_out=[LeftOutTable(table="main.log", reason="no key")])
    assert "left out: main.log: no key" in run(config).stdout


def test_a_target_of_another_name_is_shown(config: Path) -> None:
    written(config, trades(target="deals"))
    assert "main.trades → deals" in run(config).stdout


@pytest.mark.parametrize(
    ("values", "process", "said"),
    [
        ({"state": "stopped"}, "stopped", "not running (it ended in order)"),
        ({"process_start": 1.0}, "dead", "NOT RUNNING: it ended without a word"),
        ({"updated_at": NOW - timedelta(minutes=5)}, "stale", "STALE"),
        ({"updated_at": NOW + timedelta(minutes=5)}, "stale", "STALE"),
        ({"pid": 2**22 + 1}, "dead", "NOT RUNNING"),
    ],
)
def test_a_replicator_that_does_not_work_is_exit_code_1(
    config: Path, values: dict[str, object], process: str, said: str
) -> None:
    written(config, trades(), **values)
    result = run(config)
    assert result.exit_code == ExitCode.FAILED.value
    assert said in result.stdout
    assert json.loads(run(config, "--json").stdout)["process"] == process


def test_without_a_status_file_it_says_how_to_begin(config: Path) -> None:
    result = run(config)
    assert result.exit_code == ExitCode.FAILED.value
    assert result.stdout == "replicator  not running, and no status file: start 'cdc run'\n"


def stored(config: Path) -> None:
    with open_store(load(config, {}).state.directory) as store:
        store.rebuild("source-1", {TableId("main", "trades"): Mark("41", ("41",))})


def test_what_was_stored_is_shown_where_no_replicator_runs(config: Path) -> None:
    stored(config)
    row = run(config).stdout.splitlines()[2]
    assert row.split()[:5] == ["main.trades", "0", "0", "0", "41"]
    (entry,) = json.loads(run(config, "--json").stdout)["stored"]
    assert (entry["table"], entry["source"], entry["watermark"], entry["rows"]) == (
        "main.trades",
        "source-1",
        "41",
        0,
    )


def test_as_json_it_is_one_object(config: Path) -> None:
    written(config, trades(rows=5))
    document = json.loads(run(config, "--json").stdout)
    assert (document["process"], document["well"]) == ("running", True)
    assert document["status"]["tables"][0]["rows"] == 5
    assert document["stored"] == []


def test_a_file_that_is_not_a_status_is_said(config: Path) -> None:
    load(config, {}).status_path.write_text("{}")
    assert isinstance(run(config).exception, StateError)


def test_watching_looks_again_until_it_is_interrupted(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt
        written(config, trades(rows=len(waits)))

    monkeypatch.setattr("cdc.cli.status.time.sleep", wait)
    written(config, trades(rows=0))
    result = run(config, "--watch", "--json")
    assert result.exit_code == 130
    rows = [json.loads(line)["status"]["tables"][0]["rows"] for line in result.stdout.splitlines()]
    assert rows == [0, 1, 2]
