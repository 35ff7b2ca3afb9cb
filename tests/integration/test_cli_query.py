"""`cdc query` on a file that its writer holds and goes on writing, and ClickHouse in its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cdc.errors import ExitCode, SourceError, TargetError
from tests.support.clickhouse import PASSWORD
from tests.support.commands import Commands, commands
from tests.support.places import Place
from tests.support.waiting import wait_until
from tests.support.writers import VERSIONS, Writer

ROOT = Path(__file__).parents[2]


def config_of(directory: Path) -> Path:
    config = directory / "c.toml"
    config.write_text(
        f'[database]\npath = "{(directory / "t.duckdb").as_posix()}"\n'
        '[sync]\nclickhouse_endpoint = "http://127.0.0.1:9"\n'
    )
    return config


def cdc(config: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environ = {name: value for name, value in os.environ.items() if name not in ("DUCKDB_PATH", "CDC_DEBUG")}
    return subprocess.run(
        [sys.executable, "-m", "cdc", "-c", str(config), "query", *arguments],
        capture_output=True,
        cwd=ROOT,
        env=environ,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_in_use_is_queried_beside_writers_of_every_version(tmp_path: Path, version: str) -> None:
    with Writer(tmp_path / "t.duckdb", version) as writer:
        writer.run("CREATE TABLE trades (id INTEGER PRIMARY KEY, note VARCHAR)")
        writer.run("INSERT INTO trades VALUES (1, 'é'), (2, NULL)")
        found = cdc(config_of(tmp_path), "FROM trades ORDER BY id", "-f", "jsonl")
        writer.run("INSERT INTO trades VALUES (3, '')")  # and its writer never notices
    assert (found.returncode, found.stderr) == (0, b"")
    assert [json.loads(line) for line in found.stdout.splitlines()] == [
        {"id": 1, "note": "é"},
        {"id": 2, "note": None},
    ]


def test_an_answer_is_of_one_moment_while_the_writer_commits_and_checkpoints(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with Writer(tmp_path / "t.duckdb", config={"checkpoint_threshold": "200KB"}) as writer:
        writer.run("CREATE TABLE t (id BIGINT, v BIGINT)")
        writer.load("t", rows=500, transfers=1, pause=0.005)
        wait_until(lambda: writer.committed > 20_000, "a few checkpoints")
        before = writer.committed
        for _ in range(3):
            found = cdc(
                config, "SELECT count(*) AS n, sum(v)::BIGINT AS v, max(id) AS last FROM t", "-f", "jsonl"
            )
            assert found.returncode == 0, found.stderr
            answer = json.loads(found.stdout)
            assert answer["last"] == answer["n"] - 1
            assert answer["v"] == 7 * answer["n"] * (answer["n"] - 1) // 2
            assert answer["n"] >= before
            before = answer["n"]


def test_an_error_is_one_line_and_the_documented_exit_code(tmp_path: Path) -> None:
    with Writer(tmp_path / "t.duckdb") as writer:
        writer.run("CREATE TABLE trades (id INTEGER)")
        found = cdc(config_of(tmp_path), "SELECT *\nFROM trade")
    assert found.returncode == ExitCode.SOURCE.value
    assert found.stderr.count(b"\n") == 1
    assert b"line 2, column 6" in found.stderr
    assert found.stdout == b""


def test_a_reader_that_has_enough_may_close_the_pipe(tmp_path: Path) -> None:
    with Writer(tmp_path / "t.duckdb") as writer:
        writer.run("CREATE TABLE trades (id INTEGER)")
        with subprocess.Popen(
            [sys.executable, "-m", "cdc", "-c", config_of(tmp_path), "query", "FROM range(3000000)"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b'"range"\n'
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(60) == 0


TABLES = '[[tables]]\nname = "trades"\nkey = ["id"]\nwatermark = "seq"\n'


@pytest.fixture
def replicated(tmp_path: Path, any_place: Place) -> Commands:
    """A replicated table, of which one row has two states in the target, and whose file is gone."""
    run = commands(tmp_path, any_place, tables=TABLES)
    with Writer(tmp_path / "t.duckdb") as writer:
        writer.run("CREATE TABLE trades (id INTEGER PRIMARY KEY, seq BIGINT, price DECIMAL(18,6))")
        writer.run("INSERT INTO trades VALUES (1, 1, 1.5), (2, 2, 2.5)")
        assert run("schema", "apply", "--yes").exit_code == 0
        assert run("verify", "--repair").exit_code == 0
        writer.run("UPDATE trades SET price = 9 WHERE id = 2")
        assert run("verify", "--repair").exit_code == 0
    (tmp_path / "t.duckdb").unlink()
    return run


def test_clickhouse_answers_when_the_file_cannot_be_read(replicated: Commands) -> None:  # [L2]
    refused = replicated("query", "SELECT 1")
    assert isinstance(refused.exception, SourceError)
    found = replicated("query", "SELECT count(*) AS n FROM trades_current", "--fallback", "-f", "jsonl")
    assert (found.exit_code, json.loads(found.stdout)) == (0, {"n": 2})
    assert "cannot open" in found.stderr
    assert "ClickHouse answered" in found.stderr


def test_a_tables_name_means_its_current_rows_there(replicated: Commands) -> None:  # [L2]
    old = replicated.place.query("SELECT version()").startswith("18.16")
    name = "trades_current" if old else "trades"  # this release has no WITH for tables
    found = replicated("query", f"SELECT id, price FROM {name} ORDER BY id", "--fallback")
    assert found.stdout.splitlines() == ['"id","price"', "1,1.500000", "2,9.000000"]


def test_what_clickhouse_refuses_is_its_error(replicated: Commands) -> None:
    found = replicated("query", "SELECT nosuch FROM trades_current", "--fallback")
    assert isinstance(found.exception, TargetError)
    assert "nosuch" in str(found.exception)


def test_clickhouse_is_asked_as_one_who_may_only_read(replicated: Commands) -> None:  # [S4]
    sql = "SELECT value AS v FROM system.settings WHERE name = 'readonly'"
    assert replicated("query", sql, "--fallback").stdout.splitlines() == ['"v"', '"1"']


@pytest.mark.parametrize("any_place", ["old-native", "old-http"], indirect=True)
@pytest.mark.parametrize("reader", ["reader", "keeper"])
def test_clickhouse_is_asked_by_the_readers_user(replicated: Commands, reader: str) -> None:  # [S4]
    """One whose profile is read-only already, and one with a password."""
    text = replicated.config.read_text().replace("[target]", f'[target]\nreader_user = "{reader}"')
    replicated.config.write_text(text)
    if reader == "keeper":
        secrets = replicated.config.with_name("secrets.toml")
        secrets.write_text(f"[auth]\nclickhouse_reader_password = {json.dumps(PASSWORD)}\n")
        secrets.chmod(0o600)
    sql = 'SELECT "user" AS u FROM system.processes'
    assert replicated("query", sql, "--fallback", "-f", "csv").stdout.splitlines() == ['"u"', f'"{reader}"']


@pytest.mark.parametrize(
    "sql",
    [
        r"SELECT '\' AS a, ' INTO OUTFILE ''{out}'' FORMAT CSV --' AS b FROM trades_current",
        r"SELECT '\', '; DROP TABLE trades; --' FROM trades_current",
        "SELECT $$ ' $$ AS a, $$ ; DROP TABLE trades; -- $$ FROM trades_current",
        "SELECT * FROM url('http://127.0.0.1:9/', 'CSV', 'x String')",
        "SELECT * FROM file('{secret}', 'CSV', 'x String')",
        'SELECT * FROM "default"."{secret}"',
    ],
)
def test_what_is_one_select_to_duckdb_is_no_script_to_clickhouse(
    replicated: Commands, tmp_path: Path, sql: str
) -> None:
    out, secret = tmp_path / "out.csv", tmp_path / "secret.csv"
    secret.write_text("TOPSECRET\n")
    found = replicated("query", sql.format(out=out, secret=secret), "--fallback")
    assert not out.exists()
    assert "TOPSECRET" not in found.output + str(found.exception)
    assert replicated.place.rows("trades") == 3
