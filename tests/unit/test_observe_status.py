"""The status file: written whole, read back checked."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cdc.errors import ExitCode, StateError
from cdc.observe import status as status_module
from cdc.observe.status import Status, TableStatus, read_status, write_status

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)


def status(rows: int = 1, tables: int = 1) -> Status:
    return Status(
        state="running",
        version="0.1.0",
        pid=42,
        process_start=1.5,
        started_at=AT,
        updated_at=AT,
        config="c.toml",
        source="trades.duckdb",
        targets=("http://localhost:8123",),
        tables=tuple(
            TableStatus(table=f"main.t{index}", target="t", state="running", since=AT, rows=rows)
            for index in range(tables)
        ),
    )


def test_a_status_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    write_status(tmp_path / "status.json", status())
    assert read_status(tmp_path / "status.json") == status()
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_times_are_written_as_utc_in_iso_8601(tmp_path: Path) -> None:
    write_status(tmp_path / "status.json", status())
    assert json.loads((tmp_path / "status.json").read_text())["updated_at"] == "2026-01-02T03:04:05.678000Z"


def test_every_key_of_the_file_is_documented() -> None:
    document = status_module.__doc__ or ""
    words = set(document.replace(",", " ").split())
    assert set(Status.model_fields) <= words
    assert set(TableStatus.model_fields) <= words


def test_no_file_is_no_status(tmp_path: Path) -> None:
    assert read_status(tmp_path / "status.json") is None


def test_a_reader_sees_only_whole_files_while_they_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_status(path, status(0, 200))
    done = threading.Event()

    def write() -> None:
        for rows in range(1, 60):
            write_status(path, status(rows, 200))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen: set[int] = set()
    while not done.is_set():
        found = read_status(path)
        assert found is not None
        assert len({table.rows for table in found.tables}) == 1
        seen.add(found.tables[0].rows)
    writer.join()
    final = read_status(path)
    assert final is not None
    assert final.tables[0].rows == 59
    assert seen <= set(range(60))


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.mkdir()
    with pytest.raises(OSError, match=r"status\.json"):
        write_status(path, status())
    assert [found.name for found in tmp_path.iterdir()] == ["status.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "JSON"),
        ('{"format": 2}', "format"),
        ("[]", "object"),
        (status().model_dump_json().replace("running", "dancing", 1), "state"),
    ],
)
def test_what_is_not_a_status_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "status.json"
    path.write_text(content)
    with pytest.raises(StateError) as caught:
        read_status(path)
    assert said in caught.value.problem
    assert caught.value.exit_code is ExitCode.STATE


def test_keys_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_text(json.dumps({**status().model_dump(mode="json"), "moon": "full"}))
    assert read_status(path) == status()
