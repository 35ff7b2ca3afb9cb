"""`cdc verify` while the writer writes and the replicator replicates: nothing is on its way for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cdc.errors import ExitCode
from tests.support.clickhouse import ClickHouseServer
from tests.support.modern.fixture import ModernServer
from tests.support.reference_writer import running_writer
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["old", "modern"])
def endpoint(request: pytest.FixtureRequest) -> str:
    server: ClickHouseServer | ModernServer
    server = request.getfixturevalue("clickhouse_server" if request.param == "old" else "modern_server")
    return f"clickhouse://127.0.0.1:{server.native_port}"


@contextmanager
def process(config: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    environ = {name: value for name, value in os.environ.items() if name != "CDC_DEBUG"}
    with (
        config.with_suffix(".log").open("a") as log,
        subprocess.Popen(
            [sys.executable, "-m", "cdc", "-c", str(config), *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env=environ,
        ) as started,
    ):
        try:
            yield started
        finally:
            started.kill()


def verified(config: Path, *arguments: str) -> tuple[int, Any]:
    with process(config, "verify", "--json", *arguments) as started:
        output, _ = started.communicate(timeout=400)
    return started.returncode, json.loads(output)


def test_a_live_source_and_its_target_are_equal_while_both_go_on(
    tmp_path: Path, endpoint: str
) -> None:  # [F2 F7]
    config = tmp_path / "c.toml"
    database = f"live_{os.getpid()}"
    config.write_text(
        f'[database]\npath = "{(tmp_path / "t.duckdb").as_posix()}"\n'
        f'[sync]\nclickhouse_endpoint = "{endpoint}"\n'
        f'[target]\ndatabase = "{database}"\nauto_create = true\n'
        '[defaults]\nwatermark = "updated_at"\n[metrics]\nport = 0\n[performance]\npriority = "normal"\n'
    )
    with running_writer(tmp_path / "t.duckdb", "--rate", "300", "--rows-per-commit", "10") as writer:
        writer.wait_for_rows(50)
        with process(config, "run"):
            writer.wait_for_rows(500)
            status = tmp_path / "t.duckdb.cdc" / "status.json"
            wait_until(lambda: status.exists() and '"running"' in status.read_text(), "a running replicator")
            # How long rows may be on their way is for the machine to say, not for this test.
            code, found = verified(config, "--ranges", "3", "--wait", "300")
            tables = {each["table"]: each for each in found["tables"]}
            assert (code, found["equal"]) == (ExitCode.OK.value, True), found
            assert tables["main.trades"]["source_rows"] > 400
            rows = writer.heartbeat["rows"]
            writer.wait_for_rows(rows + 1)  # it wrote all the time
