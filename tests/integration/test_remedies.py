"""Remedies that messages name, each executed: trouble is made, told, done as told, and over. [issue 12]"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cdc.cli import build_app
from cdc.observe.status import read_status
from tests.support.clickhouse import ClickHouseServer
from tests.support.places import Place, place
from tests.support.replica import Replica
from tests.support.waiting import wait_until
from tests.support.writers import Writer

TABLE = "CREATE TABLE trades (id INTEGER PRIMARY KEY, seq BIGINT, other BIGINT, words VARCHAR)"
ENCRYPTED: dict[str, Any] = {
    "config": {"force_mbedtls_unsafe": "true"},
    "attach": "ENCRYPTION_KEY 'the right key'",
}
KEY = '[encryption]\nmaster_key = "the right key"\n'


@dataclass
class Desk:
    """A configuration in pieces, and a person who runs commands."""

    directory: Path
    place: Place
    endpoint: str
    sections: dict[str, str] = field(default_factory=lambda: {"defaults": 'watermark = "seq"'})
    tables: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return self.directory / "t.duckdb"

    @property
    def config(self) -> Path:
        known = {
            "database": f'path = "{self.database}"',
            "sync": f'clickhouse_endpoint = "{self.endpoint}"',
            "target": f'database = "{self.place.database}"\n' + self.sections.get("target", ""),
            "error_handling": "halted_sec = 1",
            "metrics": "port = 0",
        }
        written = known | {name: text for name, text in self.sections.items() if name != "target"}
        path = self.directory / "c.toml"
        text = "\n".join(f"[{name}]\n{text}" for name, text in written.items())
        path.write_text(f"{text}\n{self.tables}\n")
        return path

    def secrets(self, text: str, mode: int = 0o600) -> None:
        path = self.directory / "secrets.toml"
        path.write_text(text)
        path.chmod(mode)

    def run(self, *arguments: str) -> str:
        """What a command that ends well prints."""
        result = self._invoke(*arguments)
        assert result.exit_code == 0, (result.exception, result.output)
        return str(result.output)

    def told(self, *arguments: str) -> str:
        """What a command that fails tells."""
        result = self._invoke(*arguments)
        assert result.exit_code != 0, result.output
        return f"{result.output}\n{result.exception}"

    def _invoke(self, *arguments: str) -> Any:
        env = {"DUCKDB_PATH": "", "CLICKHOUSE_ENDPOINT": "", "DUCKDB_ENCRYPTION_KEY": ""} | self.environment
        return CliRunner().invoke(build_app(), ["-c", str(self.config), *arguments], env=env)

    def error(self) -> str:
        """What the status says of trouble with the tables."""
        status = read_status(self.directory / "t.duckdb.cdc" / "status.json")
        return "" if status is None else "; ".join(table.error or "" for table in status.tables)

    def well(self) -> bool:
        return bool(self._invoke("status").exit_code == 0)

    def deliver(self) -> None:
        """Replicate until all is there, and stop."""
        with Replica(self.config) as replica:
            wait_until(self.well, "it to be well", 60.0)
            assert replica.stop() == 0


@pytest.fixture
def desk(tmp_path: Path, clickhouse_server: ClickHouseServer) -> Iterator[Desk]:
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    with place(url, clickhouse_server.query) as found:
        yield Desk(tmp_path, found, url)


@pytest.fixture
def writer(desk: Desk) -> Iterator[Writer]:
    with Writer(desk.database) as writer:
        writer.run(TABLE)
        writer.run("INSERT INTO trades SELECT i, i, -i, 'w' || i FROM range(100) r(i)")
        yield writer


@pytest.fixture
def encrypting(desk: Desk) -> Iterator[Writer]:
    with Writer(desk.database, **ENCRYPTED) as writer:
        writer.run(TABLE)
        writer.run("INSERT INTO trades VALUES (1, 1, 1, 'w')")
        yield writer


QUERY = ("query", "SELECT count(*) AS n FROM trades", "-f", "csv")


@pytest.mark.parametrize("before", ["", '[encryption]\nmaster_key = "another key"\n'], ids=["none", "wrong"])
def test_the_key_of_an_encrypted_file_is_written_where_the_message_says(
    desk: Desk, encrypting: Writer, before: str
) -> None:
    """[case 25]"""
    if before:
        desk.secrets(before)
    told = desk.told(*QUERY)
    assert ("Wrong encryption key" if before else "it is encrypted, and no key is given") in told
    assert "master_key of [encryption] into secrets.toml" in told
    assert "restore it" not in told
    assert "another key" not in told
    desk.secrets(KEY)
    assert desk.run(*QUERY).splitlines()[-1] == "1"
    (desk.directory / "secrets.toml").unlink()
    assert "DUCKDB_ENCRYPTION_KEY" in told
    desk.environment["DUCKDB_ENCRYPTION_KEY"] = "the right key"
    assert desk.run(*QUERY).splitlines()[-1] == "1"


def test_a_key_for_a_file_that_is_not_encrypted_is_said(desk: Desk, writer: Writer) -> None:
    """[case 25]"""
    desk.secrets(KEY)
    desk.sections["target"] = "auto_create = true"
    with Replica(desk.config) as replica:
        wait_until(lambda: "the file is not encrypted: its key is not used" in replica.log, "it to be said")
        assert "Take master_key of [encryption] out of secrets.toml" in replica.log
    desk.secrets("")
    with Replica(desk.config) as replica:
        wait_until(desk.well, "it to be well", 60.0)
        assert "not encrypted" not in replica.log


def _target(desk: Desk, text: str) -> None:
    desk.sections["target"] = text


def _secret(desk: Desk, text: str) -> None:
    desk.secrets(text)


def _no_certificate(desk: Desk) -> None:
    desk.endpoint = "https://h:1"
    _target(desk, 'ca_file = "nowhere.pem"')


def _moved(desk: Desk) -> None:
    _target(desk, "")
    _secret(desk, '[auth]\nclickhouse_password = "x"\n')


CONFIGURED: dict[str, tuple[Callable[[Desk], None], str, Callable[[Desk], None]]] = {
    "a password in the configuration": (
        lambda desk: _target(desk, 'password = "x"'),
        "Move it to",
        _moved,
    ),
    "secrets that others may read": (
        lambda desk: desk.secrets("", 0o644),
        "Run: chmod 600",
        lambda desk: (desk.directory / "secrets.toml").chmod(0o600),
    ),
    "a key that is no key": (
        lambda desk: _target(desk, "auto_creat = true"),
        "auto_create",
        lambda desk: _target(desk, "auto_create = true"),
    ),
    "a secret with another name": (
        lambda desk: _secret(desk, '[auth]\nclickhouse_pasword = "x"\n'),
        "clickhouse_password",
        lambda desk: _secret(desk, '[auth]\nclickhouse_password = "x"\n'),
    ),
    "a TLS file that is not there": (
        _no_certificate,
        "Correct the path",
        lambda desk: _target(desk, f'ca_file = "{desk.directory / "c.toml"}"'),
    ),
}


@pytest.mark.parametrize("name", CONFIGURED)
def test_what_is_wrong_in_the_configuration_is_right_once_done_as_told(desk: Desk, name: str) -> None:
    cause, remedy, mend = CONFIGURED[name]
    cause(desk)
    assert remedy in desk.told("config", "check")
    mend(desk)
    assert "ok" in desk.run("config", "check")


def test_a_wrong_password_is_corrected_where_the_message_says(desk: Desk, writer: Writer) -> None:
    desk.secrets('[auth]\nclickhouse_user = "default"\nclickhouse_password = "not this one"\n')
    told = desk.told("schema", "apply", "--yes")
    assert "clickhouse_user and clickhouse_password of [auth] in secrets.toml" in told
    assert "not this one" not in told
    desk.secrets('[auth]\nclickhouse_user = "default"\nclickhouse_password = ""\n')
    desk.run("schema", "apply", "--yes")


def test_a_missing_table_or_database_is_made_by_the_command_that_is_named(desk: Desk, writer: Writer) -> None:
    assert "cdc schema apply" in desk.told("verify")
    desk.place.query(f"DROP DATABASE {desk.place.database}")
    assert "cdc schema apply" in desk.told("verify")
    desk.run("schema", "apply", "--yes")
    desk.run("verify", "--repair")
    assert desk.place.rows("trades") == 100


PLANNED: dict[str, tuple[str, str, str, str]] = {
    "no watermark": ("", "", "watermark column", 'watermark = "seq"'),
    "a mistyped watermark": ("", 'watermark = "sqe"', "Did you mean seq?", 'watermark = "seq"'),
    "a mistyped key": ("", 'watermark = "seq"\nkey = ["idd"]', "Did you mean id?", 'watermark = "seq"'),
    "a key that repeats itself": (
        "",
        'watermark = "seq"\nkey = ["id", "id"]',
        "each column once",
        'watermark = "seq"\nkey = ["id"]',
    ),
    "a unit that does not suit": (
        "",
        'watermark = "seq"\noverlap = "5s"',
        "without a unit",
        'watermark = "seq"\noverlap = "5"',
    ),
    "a watermark with a collation": (
        "ALTER TABLE trades ADD COLUMN c VARCHAR COLLATE NOCASE",
        'watermark = "c"',
        "ALTER TABLE main.trades ALTER c SET DATA TYPE VARCHAR",
        'watermark = "c"',
    ),
    "a column with one of our names": (
        "ALTER TABLE trades ADD COLUMN _cdc_version BIGINT",
        'watermark = "seq"',
        "Set version_column",
        'watermark = "seq"',
    ),
}


@pytest.mark.parametrize("name", PLANNED)
def test_a_table_that_cannot_be_replicated_can_once_done_as_told(
    desk: Desk, writer: Writer, name: str
) -> None:
    statement, wrong, remedy, right = PLANNED[name]
    desk.sections["defaults"] = ""
    if statement:
        writer.run(statement)
    desk.tables = f'[[tables]]\nname = "trades"\n{wrong}'
    told = desk.told("schema", "apply", "--yes")
    assert remedy in told
    if remedy.startswith("ALTER TABLE"):
        writer.run(remedy)
    if remedy == "Set version_column":
        desk.sections["target"] = 'version_column = "our_version"'
    desk.tables = f'[[tables]]\nname = "trades"\n{right}'
    desk.run("schema", "apply", "--yes")


def test_a_changed_key_is_gone_on_from_by_resync(desk: Desk, writer: Writer) -> None:
    desk.sections["target"] = "auto_create = true"
    desk.tables = '[[tables]]\nname = "trades"\ntarget = "t"\n'
    desk.deliver()
    desk.tables = '[[tables]]\nname = "trades"\ntarget = "t2"\nkey = ["id", "other"]\n'
    with Replica(desk.config) as replica:
        wait_until(lambda: "cdc resync main.trades" in desk.error(), "it to be told", 60.0)
        replica.stop()
    desk.run("resync", "main.trades", "--yes")
    desk.deliver()
    assert desk.place.rows("t2") == 100


def test_a_changed_watermark_is_set_back(desk: Desk, writer: Writer) -> None:
    desk.sections["target"] = "auto_create = true"
    desk.deliver()
    desk.sections["defaults"] = 'watermark = "words"'
    with Replica(desk.config) as replica:
        wait_until(lambda: "Set the columns back" in desk.error(), "it to be told", 60.0)
        replica.stop()
    desk.sections["defaults"] = 'watermark = "seq"'
    desk.deliver()


def test_a_port_that_is_taken_is_left_by_port_0(desk: Desk, writer: Writer) -> None:
    desk.sections["target"] = "auto_create = true"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        desk.sections["metrics"] = f"port = {taken.getsockname()[1]}"
        with Replica(desk.config) as replica:
            assert replica.wait(60.0) == 3
            assert "Choose another metrics.port, 0 for any that is free" in replica.log
        desk.sections["metrics"] = "port = 0"
        desk.deliver()


def test_a_damaged_status_file_is_written_anew_by_a_start(desk: Desk, writer: Writer) -> None:
    desk.sections["target"] = "auto_create = true"
    state = desk.directory / "t.duckdb.cdc"
    state.mkdir()
    (state / "status.json").write_text("{")
    assert "Start the replicator: it writes a new one" in desk.told("status")
    with Replica(desk.config):
        wait_until(lambda: desk._invoke("status").exception is None or desk.well(), "it to be whole", 60.0)
        wait_until(desk.well, "it to be well", 60.0)


def test_where_there_is_no_store_yet_one_run_makes_it(desk: Desk, writer: Writer) -> None:
    desk.sections["target"] = "auto_create = true"
    assert "Start 'cdc run' once" in desk.told("watermark", "list")
    desk.deliver()
    assert "main.trades" in desk.run("watermark", "list")
    told = desk.told("failed", "show", "7")
    assert "cdc failed list" in told
    assert json.loads(desk.run("failed", "list", "--json")) == []
    told = desk.told("watermark", "reset", "nosuch", "--yes")
    assert "cdc watermark list" in told
