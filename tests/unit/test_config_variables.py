"""Environment variables in the configuration's texts. [issue 16 part 1]"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cdc.config import load
from cdc.errors import ConfigError

CONFIG = """
[database]
path = "${DATA:-/data}/t.duckdb"
[sync]
clickhouse_endpoint = "{endpoint}"
[[tables]]
name = "t"
watermark = "seq"
filter = "note <> '$${itself}' AND note <> '$5'"
"""


def written(tmp_path: Path, endpoint: str = "clickhouse://${USER_NAME}@${HOST}/db") -> Path:
    path = tmp_path / "cdc.toml"
    path.write_text(CONFIG.replace("{endpoint}", endpoint))
    return path


def test_variables_and_their_defaults_are_filled_in(tmp_path: Path) -> None:
    settings = load(written(tmp_path), {"USER_NAME": "anna", "HOST": "ch", "DATA": ""})
    assert settings.database.path == Path("/data/t.duckdb")
    assert (str(settings.endpoints[0]), settings.endpoints[0].user) == ("clickhouse://ch:9000/db", "anna")
    assert settings.tables[0].filter == "note <> '${itself}' AND note <> '$5'"
    other = load(written(tmp_path), {"USER_NAME": "a", "HOST": "h", "DATA": "/x"})
    assert other.database.path == Path("/x/t.duckdb")


def test_one_that_is_not_set_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path), {"USER_NAME": "anna"})
    assert "sync.clickhouse_endpoint names the environment variable HOST, which is not set" in str(
        caught.value
    )
    assert "${HOST:-default}" in caught.value.remedy


def test_a_password_may_come_from_one_and_may_not_stand_beside_it(tmp_path: Path) -> None:
    by_variable = written(tmp_path, "clickhouses://u:${PASSWORD}@h/db")
    settings = load(by_variable, {"PASSWORD": "geheim"})
    assert settings.endpoints[0].password.get_secret_value() == "geheim"
    assert "geheim" not in repr(settings)
    with pytest.raises(ConfigError, match="contains a password"):
        load(written(tmp_path, "clickhouse://u:x${PASSWORD}@h/db"), {"PASSWORD": "geheim"})


def test_secrets_have_them_too(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.toml"
    secrets.write_text('[auth]\nclickhouse_password = "${FROM_VAULT}"\n')
    os.chmod(secrets, 0o600)
    settings = load(written(tmp_path, "clickhouses://h/db"), {"FROM_VAULT": "geheim"})
    assert settings.endpoints[0].password.get_secret_value() == "geheim"
