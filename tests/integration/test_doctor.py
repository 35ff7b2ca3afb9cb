"""`cdc doctor` against broken installations finds the cause, and names what mends it. [issue 16 part 2]"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cdc.cli import build_app
from tests.support.clickhouse import ClickHouseServer
from tests.support.writers import Writer


@dataclass
class Installation:
    """A configuration whose sections a test may change, of a file that its writer holds."""

    directory: Path
    server: ClickHouseServer
    writer: Writer

    def __post_init__(self) -> None:
        self.sections: dict[str, str] = {
            "database": f"path = '{self.writer.path}'",
            "sync": f"clickhouse_endpoint = 'clickhouse://127.0.0.1:{self.server.native_port}'",
            "target": f"auto_create = true\ndatabase = 'doctor_{os.getpid()}'",
            "metrics": "port = 0",
            "defaults": "watermark = 'seq'",
        }

    @property
    def config(self) -> Path:
        return self.directory / "cdc.toml"

    def run(self, *arguments: str) -> Result:
        text = "".join(f"[{name}]\n{lines}\n" for name, lines in self.sections.items())
        self.config.write_text(text)
        env = {"DUCKDB_PATH": "", "CLICKHOUSE_ENDPOINT": ""}
        return CliRunner().invoke(build_app(), ["doctor", "-c", str(self.config), *arguments], env=env)

    def findings(self, level: str) -> dict[str, tuple[str, str]]:
        """What was said of each subject at this level, and the remedy."""
        done = self.run("--json")
        found: dict[str, Any] = json.loads(done.stdout)
        assert done.exit_code == (1 if found["level"] == "problem" else 0)
        return {
            each["subject"]: (each["said"], each["remedy"])
            for each in found["findings"]
            if each["level"] == level
        }

    def problem(self) -> tuple[str, str, str]:
        """The only problem: its subject, what is said, and the remedy."""
        ((subject, (said, remedy)),) = self.findings("problem").items()
        return subject, said, remedy


@pytest.fixture
def installation(tmp_path: Path, clickhouse_server: ClickHouseServer) -> Iterator[Installation]:
    with Writer(tmp_path / "t.duckdb") as writer:
        writer.run("CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT)")
        writer.run("INSERT INTO t SELECT i, i FROM range(10) AS r(i)")
        yield Installation(tmp_path, clickhouse_server, writer)


def test_of_a_whole_installation_everything_is_said_to_be_well(installation: Installation) -> None:
    done = installation.run()
    assert done.exit_code == 0, done.output
    for said in (
        "ok      source: ",
        "read beside its writer, and its log followed",
        "ok      self-test: passed",
        "ok      checksums: of ",
        "ok      main.t: into t, key id, watermark seq",
        "ok      target: clickhouse://127.0.0.1",
        "ClickHouse 18.16.1",
        "1 of 1 tables are there or will be made",
        "0 problems, 0 warnings",
    ):
        assert said in done.stdout
    assert not (installation.directory / "t.duckdb.cdc/state.sqlite3").exists(), "it makes no store"


def test_a_configuration_that_is_wrong_or_missing(installation: Installation) -> None:
    installation.sections["sync"] += "\nbatch_sise = 5"
    subject, said, remedy = installation.problem()
    assert (subject, "batch_sise" in said) == ("configuration", True)
    assert "batch_size" in said + remedy
    missing = CliRunner().invoke(build_app(), ["-c", str(installation.directory / "no.toml"), "doctor"])
    assert missing.exit_code == 1
    assert "there is no such file" in missing.stdout


def test_a_file_that_is_not_there(installation: Installation) -> None:
    installation.sections["database"] = f"path = '{installation.directory}/other.duckdb'"
    subject, said, remedy = installation.problem()
    assert (subject, "there is no such file" in said) == ("source", True)
    assert "correct [database] path" in remedy


def test_a_file_that_is_no_database(installation: Installation) -> None:
    other = installation.directory / "other.duckdb"
    other.write_bytes(b"PAR1" * 5000)
    installation.sections["database"] = f"path = '{other}'"
    subject, said, _ = installation.problem()
    assert subject == "source"
    assert "DuckDB" in said


def test_a_table_without_a_watermark_is_shown_with_the_lines_to_write(installation: Installation) -> None:
    del installation.sections["defaults"]
    problems, warnings = installation.findings("problem"), installation.findings("warning")
    assert "cdc init" in problems["tables"][1]
    said, remedy = warnings["main.t"]
    assert "no watermark column is configured" in said
    lines = remedy[remedy.index("[[tables]]") :]
    installation.sections["defaults"] = lines
    assert not installation.findings("problem"), "what it says to write is right"


def test_a_listed_table_that_cannot_be_replicated(installation: Installation) -> None:
    installation.sections["defaults"] = "[[tables]]\nname = 'trades'\nwatermark = 'seq'"
    problems = installation.findings("problem")
    assert "the source has no such table" in problems["main.trades"][0]


def test_a_key_that_nothing_keeps_unique(installation: Installation) -> None:
    installation.writer.run("CREATE TABLE u (k INTEGER, seq BIGINT)")
    installation.sections["defaults"] += "\nkey = ['k']"
    said, _ = installation.findings("warning")["main.u"]
    assert "no constraint keeps the key unique" in said


def test_a_server_that_is_not_there(installation: Installation) -> None:
    installation.sections["sync"] = "clickhouse_endpoint = 'clickhouse://127.0.0.1:1'"
    subject, said, remedy = installation.problem()
    assert (subject, "the connection was refused" in said) == ("target", True)
    assert "check that the server runs" in remedy


def test_a_password_that_is_wrong(installation: Installation) -> None:
    port = installation.server.native_port
    installation.sections["sync"] = f"clickhouse_endpoint = 'clickhouse://nobody@127.0.0.1:{port}'"
    subject, said, remedy = installation.problem()
    assert subject == "target"
    assert "nobody" in said + remedy


def test_tables_that_are_not_made(installation: Installation) -> None:
    installation.sections["target"] = f"database = 'doctor_missing_{os.getpid()}'"
    subject, said, remedy = installation.problem()
    assert (subject, "not there as needed" in said) == ("target of main.t", True)
    assert f"cdc -c {installation.config} schema apply" in remedy


def test_a_port_that_another_has(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        installation.sections["metrics"] = f"port = {taken.getsockname()[1]}"
        subject, _, remedy = installation.problem()
    assert (subject, "[metrics] port" in remedy) == ("page", True)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_state_directory_that_others_may_write(installation: Installation) -> None:
    state = installation.directory / "open"
    state.mkdir()
    state.chmod(0o777)
    installation.sections["state"] = f"directory = '{state}'"
    problems = installation.findings("problem")
    assert f"chmod go-w {state}" in problems["state"][1]


def test_a_store_that_is_damaged(installation: Installation) -> None:
    state = installation.directory / "t.duckdb.cdc"
    state.mkdir(mode=0o700)
    (state / "state.sqlite3").write_bytes(b"no database at all" * 500)
    subject, _, remedy = installation.problem()
    assert subject == "state"
    assert "watermark rebuild" in remedy


def test_a_redis_that_is_away_is_a_problem_only_where_it_is_needed(installation: Installation) -> None:
    installation.sections["redis"] = "url = 'redis://127.0.0.1:1'"
    assert "without it nothing is lost" in installation.findings("warning")["redis"][1]
    installation.sections["redis"] += "\nlease = true"
    subject, _, remedy = installation.problem()
    assert (subject, "lease needs it" in remedy) == ("redis", True)
