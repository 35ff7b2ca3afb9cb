"""`cdc run` as a process, beside a real writer: everything arrives, and it ends as it should. [F2 F5 P5]"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cdc.errors import ExitCode
from cdc.observe.status import Status, read_status
from tests.support.reference_writer import running_writer
from tests.support.waiting import wait_until

_CONFIG = """
[database]
path = '{database}'
[sync]
clickhouse_endpoint = 'chdb:///{target}'
[defaults]
watermark = "{watermark}"
{defaults}
[target]
auto_create = true
[metrics]
port = 0
{more}
"""


@dataclass(frozen=True)
class Place:
    """A configuration, and what belongs to it."""

    directory: Path

    @property
    def database(self) -> Path:
        return self.directory / "trades.duckdb"

    @property
    def config(self) -> Path:
        return self.directory / "cdc.toml"

    def configure(self, *, watermark: str = "updated_at", defaults: str = "", more: str = "") -> None:
        target = (self.directory / "clickhouse").as_posix().lstrip("/")
        self.config.write_text(
            _CONFIG.format(
                database=self.database.as_posix(),
                target=target,
                watermark=watermark,
                defaults=defaults,
                more=more,
            )
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cdc", "--config", str(self.config), *arguments]

    def cdc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False)

    @contextmanager
    def replicator(self) -> Iterator[subprocess.Popen[bytes]]:
        with (self.directory / "run.log").open("ab") as log:
            process = subprocess.Popen(self.command("run"), stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def status(self) -> Status | None:
        return read_status(self.directory / "trades.duckdb.cdc" / "status.json")

    def rows(self) -> int:
        status = self.status()
        return 0 if status is None else sum(table.rows for table in status.tables)

    def wait_for_rows(self, rows: int, replicator: subprocess.Popen[bytes]) -> None:
        """Until this replicator, not an earlier one, has delivered so many."""
        wait_until(
            lambda: self._pid() == replicator.pid and self.rows() >= rows, f"{rows} rows have arrived", 30.0
        )

    def _pid(self) -> int | None:
        status = self.status()
        return None if status is None else status.pid

    def wait_quiet(self, replicator: subprocess.Popen[bytes]) -> None:
        """Until a look that began after this found nothing more in any table."""
        began = time.time()

        def caught_up() -> bool:
            assert replicator.poll() is None, (self.directory / "run.log").read_text()
            status = self.status()
            return (
                status is not None
                and bool(status.tables)
                and all(
                    table.last_cycle_at is not None and table.last_cycle_at.timestamp() > began
                    for table in status.tables
                )
            )

        wait_until(caught_up, "the replicator has caught up", 60.0)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def stop(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(20.0)


@pytest.mark.parametrize("watermark", ["updated_at", "seq"])
def test_rows_committed_out_of_order_and_with_equal_stamps_are_all_there(
    place: Place, watermark: str
) -> None:
    place.configure(watermark=watermark, more='[[tables]]\nname = "trades"')
    options = (
        "--threads",
        "4",
        "--late",
        "0.2",
        "--tick-us",
        "50000",
        "--rows-per-commit",
        "10",
        "--rate",
        "800",
    )
    with running_writer(place.database, *options) as writer:
        writer.wait_for_rows(200)
        with place.replicator() as replicator:
            writer.wait_for_rows(3000)
            writer.stop()
            place.wait_quiet(replicator)
            assert stop(replicator) == 0
    compared = place.cdc("verify", "--json")
    assert compared.returncode == ExitCode.OK.value, compared.stdout + compared.stderr


def test_a_stop_signal_ends_the_process_in_order_and_a_restart_goes_on(place: Place) -> None:
    place.configure(defaults='version = "updated_at"')
    with running_writer(place.database, "--rate", "500", "--rows-per-commit", "20") as writer:
        writer.wait_for_rows(100)
        for rows in (100, 600):
            with place.replicator() as replicator:
                place.wait_for_rows(rows, replicator)
                assert stop(replicator) == 0
            status = place.status()
            assert status is not None
            assert status.state == "stopped"
        writer.stop()
        with place.replicator() as replicator:
            place.wait_quiet(replicator)
            assert stop(replicator) == 0
    assert place.cdc("verify").returncode == ExitCode.OK.value


def test_a_second_replicator_of_one_source_is_refused_and_told_of_the_first(place: Place) -> None:
    place.configure()
    with running_writer(place.database, "--rows", "100") as writer, place.replicator() as replicator:
        writer.wait_for_rows(100)
        place.wait_quiet(replicator)
        second = place.cdc("run")
    assert second.returncode == ExitCode.HELD.value
    assert f"process {replicator.pid}" in second.stderr
    assert "Traceback" not in second.stderr


def test_the_replicator_lets_the_writer_go_first(place: Place) -> None:
    place.configure()
    with running_writer(place.database, "--rows", "100") as writer, place.replicator() as replicator:
        place.wait_for_rows(100, replicator)
        assert psutil.Process(replicator.pid).nice() > psutil.Process(writer.process.pid).nice()


def test_a_replicator_waits_for_a_source_that_is_not_there_yet(place: Place) -> None:
    place.configure()
    with place.replicator() as replicator:
        wait_until(lambda: place.status() is not None, "there is a status")
        with running_writer(place.database, "--rows", "300") as writer:
            writer.wait_for_rows(300)
            place.wait_for_rows(300, replicator)
        assert stop(replicator) == 0


def test_a_table_that_appears_later_is_replicated_too(place: Place) -> None:
    place.configure(watermark="seq")
    import duckdb

    with duckdb.connect(str(place.database)) as writer:
        writer.execute("CREATE TABLE first (id BIGINT PRIMARY KEY, seq BIGINT)")
        writer.execute("INSERT INTO first VALUES (1, 1)")
        with place.replicator() as replicator:
            place.wait_for_rows(1, replicator)
            writer.execute("CREATE TABLE second (id BIGINT PRIMARY KEY, seq BIGINT)")
            writer.execute("INSERT INTO second VALUES (1, 1), (2, 2)")
            writer.execute("CHECKPOINT")
            place.wait_for_rows(3, replicator)
            assert stop(replicator) == 0


def test_no_process_and_no_thread_is_left_behind_by_a_stop(place: Place) -> None:
    place.configure()
    with running_writer(place.database, "--rows", "100") as writer, place.replicator() as replicator:
        writer.wait_for_rows(100)
        place.wait_quiet(replicator)
        children = psutil.Process(replicator.pid).children(recursive=True)
        assert stop(replicator) == 0
        assert not any(child.is_running() for child in children)
    log = (place.directory / "run.log").read_text().splitlines()
    assert [line for line in log if json.loads(line)["level"] in ("error", "warning")] == []
