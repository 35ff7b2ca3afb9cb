"""`cdc` commands run in this process, with a configuration of a live file and any kind of target."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from cdc.cli import build_app
from tests.support.places import Place


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs commands; errors stay in the result's `exception`."""

    config: Path
    place: Place

    def __call__(self, *arguments: str) -> Result:
        env = {"DUCKDB_PATH": "", "CLICKHOUSE_ENDPOINT": ""}
        return CliRunner().invoke(build_app(), ["-c", str(self.config), *arguments], env=env)

    def document(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        result = self(*arguments, "--json")
        assert result.stdout, (result.exception, result.stderr)
        return json.loads(result.stdout)


def commands(directory: Path, place: Place, *, tables: str = "", sync: str = "") -> Commands:
    """Commands on `directory`/t.duckdb and the database of `place`."""
    config = directory / "c.toml"
    config.write_text(
        f"""
        [database]
        path = "{(directory / "t.duckdb").as_posix()}"
        [sync]
        clickhouse_endpoint = "{place.endpoint}"
        {sync}
        [target]
        database = "{place.database}"
        {tables}
        """
    )
    return Commands(config, place)
