"""What `cdc up` adds to what the configuration says of the writer and the replicator."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc.config import Settings, load
from cdc.config.programs import HttpCheck, ProgramConfig
from cdc.errors import ConfigError
from cdc.service import programs_of_up
from cdc.service.running import DRAIN_SECONDS

CONFIG = """
[database]
path = "trades.duckdb"
[sync]
clickhouse_endpoint = "http://127.0.0.1:1"
"""
WRITER = "[programs.writer]\ncommand = ['writer']\norder = 3\n"
REPLICATOR = "[programs.replicator]\ncommand = ['{python}', '-m', 'cdc', '--config', '{config}', 'run']\n"


def settings(directory: Path, more: str) -> Settings:
    (directory / "cdc.toml").write_text(CONFIG + more)
    return load(directory / "cdc.toml", {})


def replicator(directory: Path, more: str) -> ProgramConfig:
    return programs_of_up(settings(directory, more))["replicator"]


def url_of(program: ProgramConfig) -> str:
    (check,) = program.health.checks
    assert isinstance(check, HttpCheck)
    return str(check.url)


def test_the_replicator_is_started_after_the_writer_and_asked_for_its_health(tmp_path: Path) -> None:
    """[P2]"""
    program = replicator(tmp_path, WRITER)
    assert program.command[-3:] == ("run", "--drain", str(DRAIN_SECONDS))
    assert program.stop_after == ("writer",)
    assert program.grace_sec > DRAIN_SECONDS
    assert program.order == 4
    assert url_of(program) == "http://127.0.0.1:9464/healthz"


@pytest.mark.parametrize(
    ("metrics", "url"),
    [
        ("port = 9000", "http://127.0.0.1:9000/healthz"),
        ("host = '::1'", "http://[::1]:9464/healthz"),
    ],
)
def test_its_page_is_where_the_configuration_puts_it(tmp_path: Path, metrics: str, url: str) -> None:
    assert url_of(replicator(tmp_path, f"[metrics]\n{metrics}\n{WRITER}")) == url


@pytest.mark.parametrize("metrics", ["port = 0", "enabled = false"])
def test_without_a_page_at_a_known_port_its_process_alone_is_watched(tmp_path: Path, metrics: str) -> None:
    assert replicator(tmp_path, f"[metrics]\n{metrics}\n{WRITER}").health.checks == ()


def test_what_the_configuration_says_of_the_replicator_stands(tmp_path: Path) -> None:
    said = replicator(tmp_path, f"{WRITER}{REPLICATOR}order = 7\n")
    assert (said.order, url_of(said)) == (7, "http://127.0.0.1:9464/healthz")
    own = replicator(tmp_path, f"{WRITER}{REPLICATOR}[programs.replicator.health]\ninterval_sec = 1\n")
    assert own.health.checks == ()
    other = replicator(tmp_path, f"{WRITER}[programs.replicator]\ncommand = ['mine']\n")
    assert (other.command, other.health.checks) == (("mine",), ())


def test_the_writer_gets_its_limits_and_the_check_of_its_file(tmp_path: Path) -> None:
    """[P4 P7]"""
    writer = programs_of_up(settings(tmp_path, WRITER))["writer"]
    assert (writer.limits.cpu_cores, writer.limits.memory_mb) == (2, 4096)
    assert writer.before_restart is not None
    assert "check-file" in writer.before_restart.command
    own = programs_of_up(settings(tmp_path, f"{WRITER}[programs.writer.limits]\nnice = 5\n"))["writer"]
    assert (own.limits.cpu_cores, own.limits.nice) == (None, 5)


def test_without_a_writer_there_is_nothing_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no \[programs.writer\]"):
        programs_of_up(settings(tmp_path, ""))
