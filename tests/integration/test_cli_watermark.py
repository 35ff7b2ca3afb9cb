"""`cdc watermark`, `cdc resync` and `cdc failed`: what they show, ask, refuse and change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from cdc.change import Batch, Column, FailedRow, Mark, Position, TableId, TablePlan
from cdc.cli import build_app
from cdc.errors import ExitCode, LeaseHeld, StateError
from cdc.state import Lease, open_store
from cdc.stored import Decision
from cdc.watermark import bind

Run = Callable[..., Result]
TRADES = TableId("main", "trades")
ORDERS = TableId("main", "orders")
ROOT = Path(__file__).parents[2]


def plan(table: TableId, watermark: str = "BIGINT") -> TablePlan:
    columns = (Column("id", "INTEGER"), Column("seq", watermark))
    return TablePlan(table, table.name, columns, ("id",), columns[1])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with two tables of one source, and two failed rows."""
    directory = tmp_path / "state"
    with Lease(directory, "0f3a") as lease, open_store(directory) as store:
        marks = bind(store, "0f3a", lease)
        marks.describe(plan(TRADES))
        marks.describe(plan(ORDERS, "TIMESTAMP_NS"))
        row = pa.record_batch({"id": [7], "note": ["too [long]"]})
        batch = Batch(plan(TRADES), row, pa.array([3], pa.uint64()), None, Position(1, 1, 1), 0.0)
        rows = (payload(batch, "7"), payload(batch, "8"))
        marks.commit(Decision(TRADES, Mark("1000", ("7",)), 5000, 9, Position(1, 1, 5), "v", rows))
        marks.commit(Decision(ORDERS, Mark("2024-01-01 00:00:00", ("1",)), 2, 9, Position(1, 1, 6), "v"))
    return directory


def payload(batch: Batch, key: str) -> FailedRow:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.rows.schema) as writer:
        writer.write_batch(batch.rows)
    return FailedRow((key,), "1000", "value out of range\nDB::Exception", sink.getvalue().to_pybytes(), 3)


@pytest.fixture
def run(tmp_path: Path, state: Path) -> Run:
    """Runs a command with a configuration whose state directory is `state`."""
    config = tmp_path / "cdc.toml"
    config.write_text(
        f"""
        [database]
        path = {json.dumps(str(tmp_path / "trades.duckdb"))}
        [sync]
        clickhouse_endpoint = "http://localhost:8123"
        [state]
        directory = {json.dumps(str(state))}
        """
    )

    def run(*arguments: str, **options: str) -> Result:
        return CliRunner().invoke(build_app(), ["--config", str(config), *arguments], **options)  # type: ignore[arg-type]

    return run


def marks(state: Path) -> dict[str, str | None]:
    with open_store(state, mode="read") as store:
        return {
            record.table.name: record.mark.watermark if record.mark else None for record in store.tables()
        }


def test_marks_are_listed_with_their_columns_and_whether_they_move(run: Run, state: Path) -> None:
    output = run("watermark", "list").output
    assert "main.trades  seq BIGINT        1000" in output
    assert "5,000" in output
    assert "source 0f3a: not replicated now" in output
    with Lease(state, "0f3a"):
        assert "source 0f3a: replicated by process" in run("watermark", "list").output


def test_marks_are_listed_as_json(run: Run) -> None:
    orders, trades = json.loads(run("watermark", "list", "--json").output)
    assert (orders["table"], orders["mark"]) == ("main.orders", "2024-01-01 00:00:00")
    assert (trades["mark"], trades["key"], trades["key_columns"]) == ("1000", ["7"], ["id"])
    assert (trades["rows"], trades["failed_rows"], trades["position"]) == (5000, 2, "1:1:5")


@pytest.mark.parametrize(
    "arguments",
    [
        ("watermark", "reset", "trades", "--to", "500"),
        ("watermark", "reset"),
        ("watermark", "set", "trades", "500"),
        ("resync", "trades"),
    ],
    ids=" ".join,
)
def test_nothing_changes_without_a_yes(run: Run, state: Path, arguments: tuple[str, ...]) -> None:
    before = marks(state)
    unasked = run(*arguments)
    assert unasked.exit_code == ExitCode.USAGE.value
    assert "--yes" in unasked.output
    dry = run(*arguments, "--dry-run")
    assert dry.exit_code == 0
    assert "main.trades: seq 1000, id 7 →" in dry.output
    assert marks(state) == before


def test_a_person_is_asked_and_the_answer_counts(
    run: Run, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.cli.watermark._somebody_is_there", lambda: True)
    assert run("resync", "trades", input="n\n").exit_code == 1
    assert marks(state)["trades"] == "1000"
    assert run("resync", "trades", input="y\n").exit_code == 0
    assert marks(state)["trades"] is None


def test_a_mark_is_moved_back_and_the_others_stay(run: Run, state: Path) -> None:
    result = run("watermark", "reset", "trades", "--to", "0500", "--yes")
    assert "seq 1000, id 7 → seq 500: rows from there on are sent again" in result.output
    assert marks(state) == {"trades": "500", "orders": "2024-01-01 00:00:00"}


def test_a_mark_set_forward_warns_of_the_rows_before_it(run: Run, state: Path) -> None:
    result = run("watermark", "set", "main.orders", "2024-01-01T00:00:00.000000001", "--yes")
    assert (
        "seq 2024-01-01 00:00:00.000000001: rows before it that are not delivered yet are sent only"
        in result.output
    )
    assert marks(state)["orders"] == "2024-01-01 00:00:00.000000001"


def test_every_mark_is_cleared_by_a_reset_without_a_table(run: Run, state: Path) -> None:
    assert run("watermark", "reset", "--yes").exit_code == 0
    assert marks(state) == {"trades": None, "orders": None}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("watermark", "set", "trades", "yesterday"), "an integer from"),
        (("watermark", "set", "orders", "1000"), "YYYY-MM-DD"),
        (("watermark", "reset", "--to", "1000"), "YYYY-MM-DD"),
        (("resync", "nothing"), "no such table"),
        (("resync", "trades", "--source", "ff"), "no such table"),
        (("failed", "show", "99"), "there is none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_does_not_exist_or_fit_is_refused(
    run: Run, state: Path, arguments: tuple[str, ...], said: str
) -> None:
    before = marks(state)
    error = run(*arguments).exception
    assert isinstance(error, StateError)
    assert said in str(error)
    assert marks(state) == before


def test_a_name_that_is_none_is_a_usage_error(run: Run) -> None:
    result = run("resync", "a.b.c")
    assert result.exit_code == ExitCode.USAGE.value
    assert "schema.table" in result.output


def test_two_sources_with_the_table_must_be_told_apart(run: Run, state: Path) -> None:
    with open_store(state) as store:
        store.rebuild("77aa", {TRADES: Mark("5", ())})
    error = run("resync", "trades", "--yes").exception
    assert isinstance(error, StateError)
    assert "0f3a, 77aa" in str(error)
    assert "--source" in str(error)
    assert run("resync", "trades", "--source", "77", "--yes").exit_code == 0
    with open_store(state, mode="read") as store:
        assert [record.mark is None for record in store.tables(TRADES)] == [False, True]


def test_a_running_replicator_is_in_the_way_unless_forced(run: Run, state: Path) -> None:
    """[R8] Forced, the replicator cannot commit before it has loaded the new mark."""
    with Lease(state, "0f3a") as lease, open_store(state) as store:
        replicator = bind(store, "0f3a", lease)
        replicator.load(TRADES)
        error = run("resync", "trades", "--yes").exception
        assert isinstance(error, LeaseHeld)
        assert "--force" in str(error)
        assert run("resync", "trades", "--yes", "--force").exit_code == 0
        commit = Decision(TRADES, Mark("1001", ("8",)), 1, 1, Position(1, 1, 7), "v")
        with pytest.raises(StateError, match="was reset"):
            replicator.commit(commit)
        assert replicator.load(TRADES).mark is None
        replicator.commit(commit)


def test_a_missing_store_is_said_and_not_made(run: Run, state: Path) -> None:
    for path in state.iterdir():
        path.unlink()
    for arguments in (
        ["watermark", "list"],
        ["resync", "trades"],
        ["failed", "list"],
        ["failed", "retry", "1"],
    ):
        error = run(*arguments).exception
        assert isinstance(error, StateError)
        assert "there is none" in str(error)
    assert list(state.iterdir()) == []


def test_failed_rows_are_listed_in_one_line_each(run: Run) -> None:
    lines = run("failed", "list").output.splitlines()
    assert lines[0].split() == ["id", "table", "key", "watermark", "attempts", "last", "reason"]
    assert lines[1].split()[:5] == ["1", "main.trades", "7", "1000", "1"]
    assert lines[1].endswith("value out of range DB::Exception")
    assert len(lines) == 3
    assert run("failed", "list", "--limit", "1").output.splitlines()[-1] == "1 more; see --limit"
    assert len(run("failed", "list", "orders").output.splitlines()) == 1
    assert [row["key"] for row in json.loads(run("failed", "list", "--json").output)] == [["7"], ["8"]]


def test_a_failed_row_is_shown_with_every_value(run: Run) -> None:
    output = run("failed", "show", "1").output
    assert "DB::Exception" in output
    assert "attempts  1, first" in output
    assert [line.split(None, 2) for line in output.splitlines()[-2:]] == [
        ["id", "BIGINT", "7"],
        ["note", "VARCHAR", "too [long]"],
    ]
    document = json.loads(run("failed", "show", "1", "--json").output)
    assert document["columns"][1] == {"name": "note", "type": "VARCHAR", "value": "too [long]"}


def test_a_value_cannot_steer_the_terminal(run: Run, state: Path) -> None:
    with open_store(state) as store, Lease(state, "0f3a") as lease:
        row = FailedRow(("\x1b[2J",), None, "\x1b]0;title\x07", b"", 1)
        bind(store, "0f3a", lease).commit(Decision(ORDERS, None, 0, 0, Position(1, 1, 7), "v", (row,)))
    output = run("failed", "list", "orders").output
    assert "\x1b" not in output
    assert "\\x1b[2J" in output


def test_failed_rows_are_made_due_and_discarded_by_id(run: Run, state: Path) -> None:
    def due() -> list[int]:
        with open_store(state, mode="read") as store:
            first = store.failed()[0].first_at
            return [record.id for record in store.failed() if record.due_at < first + 10]

    assert due() == []
    assert run("failed", "retry").exit_code == ExitCode.USAGE.value
    assert run("failed", "retry", "1", "--all").exit_code == ExitCode.USAGE.value
    assert run("failed", "retry", "2").output == "1 row due now\n"
    assert due() == [2]
    assert run("failed", "retry", "--all").output == "2 rows due now\n"
    assert run("failed", "discard", "1").exit_code == ExitCode.USAGE.value
    assert run("failed", "discard", "1", "--yes").output == "1 row discarded\n"
    assert due() == [2]
    again = run("failed", "discard", "1", "2", "--yes")
    assert again.exit_code == ExitCode.FAILED.value
    assert "some of these rows are not there" in again.output
    assert due_count(state) == 0


def due_count(state: Path) -> int:
    with open_store(state, mode="read") as store:
        return store.failed_count()


def test_the_reset_tool_does_the_same_without_a_configuration(state: Path) -> None:
    def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            str(ROOT / "tools" / "reset_watermark.py"),
            "--state",
            str(state),
            *arguments,
        ]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    assert tool("trades", "--to", "500", "--dry-run").returncode == 0
    assert marks(state)["trades"] == "1000"
    assert tool("trades", "--to", "500", "--yes").returncode == 0
    assert marks(state)["trades"] == "500"
    with Lease(state, "0f3a"):
        held = tool("trades", "--yes")
    assert held.returncode == ExitCode.HELD.value
    assert held.stderr.startswith(
        "reset_watermark: cannot change the marks of the source 0f3a: held by process"
    )
    assert len(held.stderr.splitlines()) == 1
