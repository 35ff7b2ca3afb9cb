"""A DuckDB that does not do what reading relies on is found out at start: then there are snapshots only."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cdc.app.wiring import source_of
from cdc.config import load
from cdc.errors import SourceError
from cdc.source import run_self_test
from cdc.source.file.pin import Pin
from cdc.source.format import frames
from cdc.source.tail import follow
from cdc.source.tail.checkpoint_base import CheckpointBase
from cdc.source.tail.twin import Twin
from tests.integration.test_run import Place
from tests.support.clock import FakeClock
from tests.support.waiting import wait_until
from tests.support.writers import Writer


def test_it_passes_with_the_duckdb_at_hand_in_less_than_a_second_and_leaves_nothing(tmp_path: Path) -> None:
    run_self_test(tmp_path / "state")  # what it imports, a replicator has to import anyway
    began = time.process_time()
    done = run_self_test(tmp_path / "state")
    assert done.failed is None
    assert done.duckdb == duckdb.__version__
    assert done.snapshots
    assert time.process_time() - began < 1.0  # which a busy machine does not stretch
    assert list((tmp_path / "state").iterdir()) == []


def test_what_a_killed_process_left_is_removed_in_time(tmp_path: Path) -> None:
    old, young = tmp_path / "self-test-a", tmp_path / "self-test-b"
    for left in (old, young):
        left.mkdir()
        (left / "t.db").touch()
    os.utime(old, (0, 0))
    run_self_test(tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == ["self-test-b"]


def test_where_it_cannot_be_run_the_log_is_not_followed_either(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no directory")
    done = run_self_test(tmp_path / "state")
    assert done.failed is not None
    assert done.failed.startswith("it cannot be run: FileExistsError")
    assert done.snapshots
    assert done.remedy.startswith(f"Let this user write to {tmp_path / 'state'}")


def shifted(method: Callable[..., int]) -> Callable[..., int]:
    return lambda *arguments: method(*arguments) + 1


BROKEN: tuple[tuple[str, Any, str, Any], ...] = (
    ("the headers are no lock", Pin, "is_superseded", lambda pin: False),
    ("the log is laid out in another way", frames, "kind", lambda frame: frame[19]),
    ("the log is laid out in another way", frames, "checksum", lambda payload: 0),
    ("the log is laid out in another way", frames, "used_table", lambda frame: None),
    ("the log does not show what was committed", follow, "FRAMED", 4),
    ("the log does not show what was committed", Twin, "attached", None),
    (
        "the log does not show what was committed",
        CheckpointBase,
        "next_row_id",
        shifted(CheckpointBase.next_row_id),
    ),
)


@pytest.mark.parametrize(
    ("problem", "owner", "name", "other"), BROKEN, ids=[name for _, _, name, _ in BROKEN]
)
def test_it_fails_where_a_part_of_what_it_tests_is_not_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str, owner: Any, name: str, other: Any
) -> None:
    monkeypatch.setattr(owner, name, other)
    done = run_self_test(tmp_path)
    assert done.failed is not None
    assert done.failed.startswith(problem), done.failed
    assert done.remedy == "Install a DuckDB that was tested, as by: pip install duckdb==2.0.1; then restart"
    assert done.snapshots == (owner is not Pin)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_numbered_otherwise_past_deleted_ones_fail_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a checkpoint numbered the rows in the file anew."""
    monkeypatch.setattr(CheckpointBase, "next_row_id", lambda base, *_: base.stored_rows)
    done = run_self_test(tmp_path)
    assert done.failed is not None
    assert done.failed.startswith(("rows are numbered in another way", "the log does not show")), done.failed


BREAKING = """
import sys
from cdc.source.format import frames
{broken}
from cdc.cli import main
sys.argv = ["cdc", "--config", {config!r}, "run"]
main()
"""


@contextmanager
def running(place: Place, broken: str) -> Iterator[subprocess.Popen[bytes]]:
    """A replicator in which `broken` was done first."""
    program = BREAKING.format(broken=broken, config=str(place.config))
    with (place.directory / "run.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def test_a_replicator_whose_self_test_fails_reads_in_snapshots_and_says_so(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.configure(watermark="seq")
    with Writer(place.database) as writer:
        writer.run("CREATE TABLE t (id BIGINT PRIMARY KEY, seq BIGINT NOT NULL, v VARCHAR)")
        writer.run("INSERT INTO t SELECT i, i, 'a' FROM range(10) r(i)")
        with running(place, "frames.kind = lambda frame: frame[19]") as process:
            place.wait_for_rows(10, process)
            writer.run("INSERT INTO t VALUES (10, 10, 'b')")
            place.wait_for_rows(11, process)
            status = place.status()
            shown = place.cdc("status")
    assert status is not None
    assert status.duckdb == duckdb.__version__
    assert status.self_test is not None
    assert status.self_test.startswith("the log is laid out in another way")
    assert "tables are read in snapshots only" in alerts(place)["self_test"]
    assert shown.returncode == 1
    said = " ".join(shown.stdout.split())
    assert f"not well: source: self_test: {alerts(place)['self_test']}" in said
    said = (tmp_path / "run.log").read_text()
    assert "the self-test failed: the log is laid out in another way" in said


def test_where_the_headers_are_no_lock_the_file_is_read_only_while_no_writer_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pin, "is_superseded", lambda pin: False)
    done = run_self_test(tmp_path / "state")
    place = Place(tmp_path)
    place.configure(watermark="seq")
    settings = load(place.config, {})
    with Writer(place.database) as writer:
        writer.run("CREATE TABLE t (id BIGINT PRIMARY KEY)")
        with (
            source_of(settings, self_test=done, clock=FakeClock()) as source,
            pytest.raises(SourceError, match="writer holds it"),
        ):
            source.tables()
    with source_of(settings, self_test=done) as source:
        assert [schema.table.name for schema in source.tables()] == ["t"]


def test_updates_then_arrive_by_comparing(tmp_path: Path) -> None:
    """The log shows nothing, so that the table is compared with the target once it is caught up."""
    place = Place(tmp_path)
    place.configure(watermark="seq")
    with Writer(place.database) as writer:
        writer.run("CREATE TABLE t (id BIGINT PRIMARY KEY, seq BIGINT NOT NULL, v VARCHAR)")
        writer.run("INSERT INTO t SELECT i, i, 'a' FROM range(5000) r(i)")
        with running(place, "frames.kind = lambda frame: frame[19]") as process:
            place.wait_for_rows(5_000, process)
            place.wait_quiet(process)
            before = reconciled_rows(place)
            writer.run("UPDATE t SET v = 'changed' WHERE id = 3")  # before the overlap
            wait_until(lambda: reconciled_rows(place) > before, "the changed row to be found", 60.0)
    assert "to be compared with the target" in (tmp_path / "run.log").read_text()
    with Writer(place.database):
        compared = place.cdc("verify", "t")
    assert compared.returncode == 0, compared.stdout


def test_a_replicator_whose_self_test_passes_says_that_and_which_duckdb_it_was(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.configure(watermark="seq")
    with Writer(place.database) as writer:
        writer.run("CREATE TABLE t (id BIGINT PRIMARY KEY, seq BIGINT NOT NULL, v VARCHAR)")
        writer.run("INSERT INTO t VALUES (1, 1, 'a')")
        with place.replicator() as replicator:
            place.wait_for_rows(1, replicator)
            place.wait_quiet(replicator)
            status = place.status()
            shown = place.cdc("status")
    assert status is not None
    assert status.duckdb == duckdb.__version__
    assert status.self_test == "passed"
    assert "self_test" not in alerts(place)
    assert shown.returncode == 0, shown.stdout
    assert "self_test" not in shown.stdout


def test_versions_that_were_not_tested_are_said_once_in_log_and_status(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.configure(watermark="seq")
    broken = 'from cdc.source.format import tested; tested.WRITERS = tested.READERS = ("1.9.0", "1.9.1")'
    with Writer(place.database) as writer:
        writer.run("CREATE TABLE t (id BIGINT PRIMARY KEY, seq BIGINT NOT NULL, v VARCHAR)")
        writer.run("INSERT INTO t VALUES (1, 1, 'a')")
        with running(place, broken) as process:
            place.wait_for_rows(1, process)
            writer.run("INSERT INTO t VALUES (2, 2, 'a')")
            place.wait_for_rows(2, process)
            status = place.status()
    assert status is not None
    assert [said.partition(" was not tested")[0] for said in status.untested] == [
        f"DuckDB {duckdb.__version__}, which reads here,",
        f"DuckDB {duckdb.__version__}, which created the file,",
    ]
    said = (tmp_path / "run.log").read_text()
    assert [said.count(sentence) for sentence in status.untested] == [1, 1]


def reconciled_rows(place: Place) -> int:
    status = place.status()
    return 0 if status is None else sum(table.reconciled_rows or 0 for table in status.tables)


def alerts(place: Place) -> dict[str, str]:
    status = place.status()
    return {} if status is None else {alert.name: alert.message for alert in status.alerts}
