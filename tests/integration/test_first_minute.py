"""From a live file to its copy without a configuration written by hand. [issue 16 part 1]"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cdc.app.first_configuration import kept_configuration
from cdc.cli import build_app
from cdc.config import load
from cdc.errors import ConfigError, SourceError
from tests.support.writers import Writer

STATEMENTS = (
    "CREATE TABLE trades (id UUID PRIMARY KEY, seq BIGINT NOT NULL, qty INTEGER, made TIMESTAMP)",
    "INSERT INTO trades SELECT uuid(), i, i % 7, TIMESTAMP '2026-01-01' + to_seconds(i // 3) "
    "FROM range(500) AS r(i)",
    "CREATE TABLE quotes (symbol VARCHAR PRIMARY KEY, price DOUBLE, updated_at TIMESTAMP)",
    "INSERT INTO quotes SELECT 'S' || i, i, TIMESTAMP '2026-01-01' + to_seconds(i) FROM range(9) AS r(i)",
    "CREATE TABLE orders (order_id BIGINT, state VARCHAR)",
    "INSERT INTO orders SELECT i, 'new' FROM range(20) AS r(i)",
    "CREATE TABLE late (k INTEGER PRIMARY KEY, at_ns TIMESTAMP_NS)",
    "INSERT INTO late SELECT i, make_timestamp_ns(1000 - i) FROM range(9) AS r(i)",
    'CREATE TABLE "we ird""[" (k VARCHAR UNIQUE NOT NULL, n INTEGER)',
    'CREATE TABLE "two\nlines" (k INTEGER PRIMARY KEY)',
    'CREATE TABLE "a.b" (k INTEGER PRIMARY KEY)',
    "CREATE TABLE plain (a VARCHAR)",
    "CREATE TABLE twice (id INTEGER, n INTEGER)",
    "INSERT INTO twice VALUES (1, 1), (1, 2)",
    "CREATE TABLE hides (rowid INTEGER PRIMARY KEY, n INTEGER)",
)
TARGET = "clickhouse://127.0.0.1:1/desk"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """A file that its writer holds."""
    with Writer(tmp_path / "t.duckdb") as writer:
        for statement in STATEMENTS:
            writer.run(statement)
        yield tmp_path / "t.duckdb"


def cdc(*arguments: object, **environ: str) -> Result:
    env = {"DUCKDB_PATH": "", "CLICKHOUSE_ENDPOINT": "", "COLUMNS": "200", **environ}
    return CliRunner().invoke(build_app(), list(map(str, arguments)), env=env)


def test_init_proposes_key_and_watermark_of_each_table_with_the_reason(file: Path, tmp_path: Path) -> None:
    output = tmp_path / "cdc.toml"
    done = cdc("init", file, TARGET, "-o", output)
    assert done.exit_code == 0, done.output
    assert f"cdc -c {output} run" in done.stdout
    tables = {each.name: each for each in load(output, {}).tables}
    assert {name: (each.key, each.watermark) for name, each in tables.items()} == {
        "trades": (None, "seq"),
        "quotes": (None, "updated_at"),
        "orders": (("order_id",), "order_id"),
        "late": (None, "k"),
        'we ird"[': (("k",), "n"),
        "hides": (None, "rowid"),
    }
    for said in (
        "main.trades: key is its primary key (id); watermark seq grows in the last 500 rows",
        "main.plain: LEFT OUT: no column of it can be a watermark",
        "main.twice: LEFT OUT: it has no primary key or unique constraint",
        "CHECK: No constraint keeps order_id unique (it was in 20 rows)",
        "main.two\\nlines: LEFT OUT: a configuration cannot name it",
        "main.a.b: LEFT OUT: a configuration cannot name it",
        "CHECK: Does n grow? There was no row to look at.",
    ):
        assert said in done.stdout
    assert output.stat().st_mode & 0o077 == 0


def test_init_does_not_write_over_a_file_unasked(file: Path, tmp_path: Path) -> None:
    output = tmp_path / "cdc.toml"
    output.write_text("mine")
    refused = cdc("init", file, TARGET, "-o", output)
    assert isinstance(refused.exception, ConfigError)
    assert "there is one already" in str(refused.exception)
    assert output.read_text() == "mine"
    assert cdc("init", file, TARGET, "-o", output, "--force").exit_code == 0
    assert load(output, {}).database.path == file


def test_what_cannot_be_proposed_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    with Writer(tmp_path / "t.duckdb") as writer:
        writer.run("CREATE TABLE plain (a VARCHAR)")
        done = cdc("init", tmp_path / "t.duckdb", TARGET, "-o", tmp_path / "cdc.toml")
    assert isinstance(done.exception, ConfigError)
    assert "main.plain: no column of it can be a watermark" in str(done.exception)
    assert not (tmp_path / "cdc.toml").exists()
    missing = cdc("init", tmp_path / "nope.duckdb", TARGET)
    assert isinstance(missing.exception, SourceError)


@pytest.mark.parametrize(
    ("target", "said"),
    [("foo", "unknown scheme"), ("clickhouse://u:geheim@h/db", "Set CLICKHOUSE_PASSWORD")],
)
def test_an_unusable_target_is_refused_before_the_file_is_looked_at(target: str, said: str) -> None:
    refused = cdc("init", "nope.duckdb", target)
    assert isinstance(refused.exception, ConfigError)
    assert said in str(refused.exception)
    assert "geheim" not in str(refused.exception)


def test_what_run_proposed_once_is_kept(file: Path) -> None:
    path = kept_configuration(str(file), TARGET, {})
    assert path == file.with_name("t.duckdb.cdc") / "cdc.toml"
    path.write_text(path.read_text().replace('watermark = "seq"', 'watermark = "made"'))
    assert kept_configuration(str(file), TARGET, {}) == path
    assert next(each for each in load(path, {}).tables if each.name == "trades").watermark == "made"
    with pytest.raises(ConfigError, match=r"replicates it into clickhouse://127\.0\.0\.1:1/desk"):
        kept_configuration(str(file), "clickhouse://elsewhere/desk", {})


def test_run_takes_both_from_command_line_or_environment_and_not_half_of_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "name the target too" in cdc("run", file).stderr
    assert "not both" in cdc("run", file, TARGET, "-c", tmp_path / "c.toml").stderr
    missing = cdc("run", tmp_path / "nope.duckdb", TARGET)
    assert isinstance(missing.exception, SourceError)
    alone = cdc("run", DUCKDB_PATH=str(tmp_path / "nope.duckdb"), CLICKHOUSE_ENDPOINT=TARGET)
    assert isinstance(alone.exception, SourceError)
    nothing = cdc("run")
    assert isinstance(nothing.exception, ConfigError)
    assert not os.path.exists(tmp_path / "nope.duckdb.cdc")


def test_the_configuration_may_be_named_before_and_after_the_command(file: Path, tmp_path: Path) -> None:
    output = tmp_path / "cdc.toml"
    assert cdc("init", file, TARGET, "-o", output).exit_code == 0
    for arguments in (
        ("-c", output, "config", "check"),
        ("config", "-c", output, "check"),
        ("config", "check", "--config", output),
        ("config", "check", f"--config={output}"),
    ):
        done = cdc(*arguments)
        assert done.stdout.startswith(f"{output}: ok"), done.output
