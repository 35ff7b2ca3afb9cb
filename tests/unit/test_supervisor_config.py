"""The shipped configuration shows every key of the supervisor and its programs, with its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from cdc.config import load
from cdc.config.programs import (
    FileCheckConfig,
    HealthConfig,
    LogConfig,
    ProgramConfig,
    ProgramLimitsConfig,
    Programs,
    RestartConfig,
    SupervisorConfig,
)
from cdc.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "config" / "duckdb_python_config.toml"
EXAMPLES = {
    "path",
    "paths",
    "port",
    "url",
    "command",
    "directory",
    "environment",
    "user",
    "reload_signal",
} | {
    "cpu_cores",
    "memory_mb",
    "disk_paths",
    "set_aside",
}
"""Keys whose comment says what holds if they are not given."""


def shown() -> dict[str, Any]:
    """What the file says of supervisor and programs, its comment signs taken away."""
    text = SHIPPED.read_text(encoding="utf-8")
    lines = text[text.index("# [supervisor]") :].splitlines()
    settings = [line.removeprefix("# ") for line in lines if re.match(r"# (\[|[a-z_]+ = )", line)]
    return tomllib.loads("\n".join(settings))


SHOWN = shown()
WRITER = SHOWN["programs"]["writer"]


def test_it_is_valid() -> None:
    SupervisorConfig.model_validate(SHOWN["supervisor"])
    programs = TypeAdapter(Programs).validate_python(SHOWN["programs"])
    assert [check.kind for check in programs["writer"].health.checks] == [
        "heartbeat",
        "progress",
        "tcp",
        "http",
        "command",
    ]


@pytest.mark.parametrize(
    ("model", "section"),
    [
        (SupervisorConfig, SHOWN["supervisor"]),
        (ProgramConfig, WRITER),
        (HealthConfig, WRITER["health"]),
        (RestartConfig, WRITER["restart"]),
        (ProgramLimitsConfig, WRITER["limits"]),
        (LogConfig, WRITER["log"]),
        (FileCheckConfig, WRITER["before_restart"]),
    ],
)
def test_every_key_is_there_with_its_default(model: type[BaseModel], section: dict[str, Any]) -> None:
    assert set(section) == set(model.model_fields)
    plain = {name for name, value in section.items() if not isinstance(value, dict)} - EXAMPLES - {"checks"}
    said = {
        name: list(each) if isinstance(each, tuple) else each
        for name, each in _defaults(model, plain).items()
    }
    assert {name: section[name] for name in plain} == said


def _defaults(model: type[BaseModel], names: set[str]) -> dict[str, object]:
    return {name: model.model_fields[name].default for name in names}


def test_the_checks_show_their_defaults() -> None:
    programs = TypeAdapter(Programs).validate_python(SHOWN["programs"])
    for check in programs["writer"].health.checks:
        fields = type(check).model_fields
        said = {name for name in check.model_fields_set if name not in EXAMPLES | {"kind"}}
        assert {name: getattr(check, name) for name in said} == {name: fields[name].default for name in said}


def test_the_webhook_comes_from_the_secrets_alone(tmp_path: Path) -> None:
    """[S7]"""
    config, secrets = tmp_path / "cdc.toml", tmp_path / "secrets.toml"
    least = '[database]\npath = "x"\n[sync]\nclickhouse_endpoint = "http://a"\n'
    config.write_text(least)
    secrets.write_text('[alerts]\nwebhook = "https://a/key"\n')
    secrets.chmod(0o600)
    webhook = load(config, {}).supervisor.alerts.webhook
    assert webhook is not None
    assert webhook.get_secret_value() == "https://a/key"
    config.write_text(f'{least}[supervisor.alerts]\nwebhook = "https://a/key"\n')
    with pytest.raises(ConfigError, match=r"Move it to .*secrets.toml, as webhook of \[alerts\]"):
        load(config, {})
