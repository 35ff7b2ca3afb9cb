"""Which way the source is read in is told, with the reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cdc.app.opening import way_of
from cdc.config import load


@pytest.mark.parametrize(
    ("path", "platform", "way"),
    [
        ("quack://127.0.0.1:9494", "win32", "served"),
        ("quack://127.0.0.1:9494", "linux", "served"),
        ("t.duckdb", "win32", "released: .*shares its file with nobody"),
        ("t.duckdb", "linux", "live"),
    ],
)
def test_the_way_follows_from_path_and_platform(
    tmp_path: Path, path: str, platform: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUCKDB_QUACK_TOKEN", "token")
    config = tmp_path / "c.toml"
    config.write_text(f'[database]\npath = "{path}"\n[sync]\nclickhouse_endpoint = "http://h"\n')
    found = way_of(load(config), platform)
    assert re.match(way, found)
