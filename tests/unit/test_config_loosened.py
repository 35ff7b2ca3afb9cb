"""A password in plain text and unverified TLS to another host need a key that says so, and are told. [S1]"""

from __future__ import annotations

import contextlib
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from cdc.app.opening import Opening, StoppedWaiting
from cdc.cli import build_app
from cdc.config import load, loosened
from cdc.errors import ConfigError

LEAST = '[database]\npath = "t.duckdb"\n[metrics]\nenabled = false\n[sync]\nclickhouse_endpoint = "{}"\n'
PASSWORDS = {"CLICKHOUSE_PASSWORD": "hush", "REDIS_PASSWORD": "hush", "DUCKDB_QUACK_TOKEN": "hush"}
ELSEWHERE = [
    ("clickhouse://h", "", "target", "allow_plaintext_password", "clickhouses://"),
    ("http://10.0.0.1", "", "target", "allow_plaintext_password", "https://"),
    ("clickhouses://h", "[target]\ntls_verify = false\n", "target", "allow_unverified_tls", "ca_file"),
    ("https://h", "[target]\ntls_verify = false\n", "target", "allow_unverified_tls", "ca_file"),
    ("http://[::1]", '[redis]\nurl = "redis://h"\n', "redis", "allow_plaintext_password", "rediss://"),
    (
        "http://[::1]",
        '[redis]\nurl = "rediss://h"\ntls_verify = false\n',
        "redis",
        "allow_unverified_tls",
        "ca_file",
    ),
]


def written(directory: Path, endpoint: str, more: str) -> Path:
    path = directory / "c.toml"
    path.write_text(LEAST.format(endpoint) + more)
    return path


def allowing(more: str, section: str, key: str) -> str:
    more = more if f"[{section}]" in more else f"{more}[{section}]\n"
    return f"{more}{key} = true\n"


@pytest.mark.parametrize(("endpoint", "more", "section", "key", "instead"), ELSEWHERE)
def test_what_another_host_could_abuse_is_refused_with_the_line_that_allows_it(
    tmp_path: Path, endpoint: str, more: str, section: str, key: str, instead: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, endpoint, more), PASSWORDS)
    assert f"write {key} = true into [{section}]" in str(caught.value)
    assert instead in str(caught.value)
    assert "hush" not in str(caught.value)
    allowed = load(written(tmp_path, endpoint, allowing(more, section, key)), PASSWORDS)
    assert [(setting.section, setting.key) for setting in loosened(allowed)] == [(section, key)]


@pytest.mark.parametrize(
    ("endpoint", "more"),
    [
        ("clickhouse://127.0.0.1", '[redis]\nurl = "redis://localhost"\n'),
        (
            "https://localhost",
            '[target]\ntls_verify = false\n[redis]\nurl = "rediss://[::1]"\ntls_verify = false\n',
        ),
        ("chdb:///tmp/x", ""),
        ("clickhouses://h", '[redis]\nurl = "rediss://h"\n'),
    ],
)
def test_what_stays_within_the_machine_or_is_verified_needs_no_key(
    tmp_path: Path, endpoint: str, more: str
) -> None:
    assert list(loosened(load(written(tmp_path, endpoint, more), PASSWORDS))) == []


def test_a_token_of_quack_goes_to_another_host_only_where_that_is_allowed(tmp_path: Path) -> None:
    path = written(tmp_path, "http://[::1]", "")
    text = path.read_text()
    path.write_text(text.replace("t.duckdb", "quack://trader:9494"))
    with pytest.raises(ConfigError, match=r"write allow_plaintext_token = true into \[database\]") as caught:
        load(path, PASSWORDS)
    assert "tunnel" in str(caught.value)
    assert "hush" not in str(caught.value)
    path.write_text(text.replace('t.duckdb"', 'quack://trader:9494"\nallow_plaintext_token = true'))
    assert [setting.key for setting in loosened(load(path, PASSWORDS))] == ["allow_plaintext_token"]
    path.write_text(text.replace("t.duckdb", "quack://[::1]:9494"))
    assert list(loosened(load(path, PASSWORDS))) == []


def test_without_a_password_nothing_is_sent_in_plain_text(tmp_path: Path) -> None:
    more = '[redis]\nurl = "redis://h"\n'
    assert list(loosened(load(written(tmp_path, "http://h", more), {}))) == []


def test_what_is_loosened_is_said_at_each_start(tmp_path: Path) -> None:
    path = written(tmp_path, "http://h", allowing("", "target", "allow_plaintext_password"))
    path.write_text(path.read_text().replace("t.duckdb", (tmp_path / "t.duckdb").as_posix()))
    stop = threading.Event()
    stop.set()
    with structlog.testing.capture_logs() as told, contextlib.suppress(StoppedWaiting), ExitStack() as stack:
        Opening(load(path, PASSWORDS), stack, stop, standby=False).all()
    said = [line for line in told if line["event"] == "loosened"]
    assert [line["allowed_by"] for line in said] == ["target.allow_plaintext_password"]
    assert "plain text" in said[0]["danger"]


def test_the_check_lists_every_loosened_setting(tmp_path: Path) -> None:
    more = allowing("", "target", "allow_plaintext_password")
    more += '[redis]\nurl = "rediss://h"\ntls_verify = false\nallow_unverified_tls = true\n'
    path = written(tmp_path, "http://h", more)
    shown = CliRunner().invoke(build_app(), ["-c", str(path), "config", "check", "--security"], env=PASSWORDS)
    keys = [line.partition(":")[0] for line in shown.stdout.splitlines()]
    assert keys == ["target.allow_plaintext_password", "redis.allow_unverified_tls"]
    path.write_text(LEAST.format("https://h"))
    shown = CliRunner().invoke(build_app(), ["-c", str(path), "config", "check", "--security"], env=PASSWORDS)
    assert shown.stdout == f"{path}: nothing is loosened\n"
