"""`cdc config check` and `cdc config show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cdc.cli import build_app
from cdc.errors import ConfigError

CONFIG = """
[database]
path = "trades.duckdb"
[sync]
clickhouse_endpoint = "https://u@localhost"
batch_size = 7
[[tables]]
name = "trades"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    return path


def run(config: Path, *arguments: str, **environ: str) -> Result:
    clean = dict.fromkeys(("DUCKDB_PATH", "CLICKHOUSE_ENDPOINT", "CLICKHOUSE_PASSWORD"), "")
    return CliRunner().invoke(
        build_app(), ["-c", str(config), "config", *arguments], env={**clean, **environ}
    )


def test_a_right_configuration_is_summed_up(config: Path) -> None:
    result = run(config, "check")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{config}: ok",
        "  source  trades.duckdb",
        "  target  https://localhost:8443",
        "  tables  trades",
        "  state   trades.duckdb.cdc",
    ]


def test_a_wrong_configuration_ends_the_check(config: Path) -> None:
    config.write_text(CONFIG.replace("batch_size = 7", "batch_size = 0"))
    assert isinstance(run(config, "check").exception, ConfigError)


def test_a_tls_file_that_is_not_there_is_found_by_the_check(config: Path) -> None:
    config.write_text(f'{CONFIG}\n[target]\nca_file = "absent.pem"\n')
    error = run(config, "check").exception
    assert isinstance(error, ConfigError)
    assert error.problem == "target.ca_file = absent.pem: no such file"


def test_each_value_is_shown_with_its_origin(config: Path) -> None:
    lines = [
        line.split("  # ") for line in run(config, "show", DUCKDB_PATH="D:/x.duckdb").stdout.splitlines()
    ]
    origins = {parts[0].strip(): parts[1] for parts in lines}
    assert origins['database.path = "D:/x.duckdb"'] == "DUCKDB_PATH"
    assert origins["sync.batch_size = 7"] == str(config)
    assert origins["sync.linger_ms = 10.0"] == "default"
    assert origins['tables[0].name = "trades"'] == str(config)
    assert origins["tables[0].key = (not set)"] == "default"


def test_show_as_json_is_one_object_of_values_with_origins(config: Path) -> None:
    document = json.loads(run(config, "show", "--json").stdout)
    assert document["sync.batch_size"] == {"value": 7, "origin": f"{config}:sync.batch_size"}
    assert document["metrics.enabled"] == {"value": True, "origin": "default"}


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_secrets_are_masked(config: Path, form: tuple[str, ...]) -> None:
    shown = run(
        config,
        "show",
        *form,
        CLICKHOUSE_PASSWORD="hush-password",
        CLICKHOUSE_ENDPOINT="http://u:hush-url@localhost",
    ).stdout
    assert "hush" not in shown
    assert "CLICKHOUSE_PASSWORD" in shown
    assert "http://localhost:8123" in shown
