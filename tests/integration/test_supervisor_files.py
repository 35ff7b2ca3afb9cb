"""The files around a program: its log, its damaged data, the space and the memory it has."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cdc.config.programs import FileCheckConfig, ProgramLimitsConfig
from cdc.supervisor.filecheck import check_files, set_aside
from cdc.supervisor.limits import memory_breach, short_of_space
from cdc.supervisor.logs import RotatedLog
from cdc.supervisor.machine import FileVerdict

WALL = 1_760_000_000.0  # 2025-10-09T08:53:20Z


def test_a_full_log_is_rotated_under_the_program_that_appends_to_it(tmp_path: Path) -> None:
    path = tmp_path / "writer.log"
    log = RotatedLog(path, max_mb=1, keep=2)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        for letter in b"abcd":
            assert not log.rotate_if_full()
            os.write(descriptor, bytes([letter]) * (1 << 20))
            assert log.rotate_if_full()
        os.write(descriptor, b"more")
    finally:
        os.close(descriptor)
    assert path.read_bytes() == b"more"
    assert {log.numbered(number).read_bytes()[:1] for number in (1, 2)} == {b"d", b"c"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["writer.log", "writer.log.1", "writer.log.2"]


def test_a_rotation_that_fails_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "writer.log"
    path.write_bytes(b"x" * (1 << 20))
    (tmp_path / "writer.log.0").mkdir()
    with pytest.raises(OSError, match=r"writer\.log\.0"):
        RotatedLog(path, max_mb=1, keep=2).rotate_if_full()
    assert path.stat().st_size == 1 << 20


def test_damaged_files_are_renamed_together_and_never_over_others(tmp_path: Path) -> None:
    data, log = tmp_path / "t.duckdb", tmp_path / "t.duckdb.wal"
    for content in ("first", "second"):
        data.write_text(content)
        if content == "second":
            log.write_text(content)
        set_aside((data, log), WALL)
    kept = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert kept == {
        "t.duckdb.damaged-20251009T085320Z": "first",
        "t.duckdb.damaged-20251009T085320Z-2": "second",
        "t.duckdb.wal.damaged-20251009T085320Z-2": "second",
    }


def check(tmp_path: Path, code: int, **settings: Any) -> tuple[FileVerdict, str]:
    command = [sys.executable, "-c", f"print('block 7'); raise SystemExit({code})"]
    config = FileCheckConfig.model_validate(
        {"command": command, "set_aside": [tmp_path / "t.duckdb"], **settings}
    )
    return check_files(config, None, {}, WALL)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "t.duckdb"
    path.write_text("trades")
    return path


def test_a_sound_file_stays_where_it_is(tmp_path: Path, data: Path) -> None:
    assert check(tmp_path, 0) == (FileVerdict.SOUND, "block 7")
    assert data.exists()


def test_a_damaged_file_is_set_aside_with_what_was_found(tmp_path: Path, data: Path) -> None:
    verdict, detail = check(tmp_path, 7)
    assert verdict is FileVerdict.CORRUPT
    assert detail == f"its files are damaged (block 7), and set aside as {data}.damaged-20251009T085320Z"
    assert not data.exists()


@pytest.mark.parametrize("code", [1, 4, -9])
def test_any_other_failure_of_the_check_moves_nothing(tmp_path: Path, data: Path, code: int) -> None:
    source = "import os; os.kill(os.getpid(), 9)" if code == -9 else f"raise SystemExit({code})"
    verdict, detail = check(tmp_path, code, command=[sys.executable, "-c", source])
    assert verdict is FileVerdict.UNKNOWN
    assert f"exit code {code}" in detail
    assert data.exists()


def test_a_check_that_takes_too_long_moves_nothing(tmp_path: Path, data: Path) -> None:
    hang = [sys.executable, "-c", "import time; time.sleep(600)"]
    verdict, detail = check(tmp_path, 0, command=hang, timeout_sec=0.2)
    assert verdict is FileVerdict.UNKNOWN
    assert "did not end within 0.2 s" in detail
    assert data.exists()


@pytest.mark.parametrize(("code", "verdict"), [(0, FileVerdict.RESTORED), (1, FileVerdict.CORRUPT)])
def test_a_restore_runs_only_where_configured(
    tmp_path: Path, data: Path, code: int, verdict: FileVerdict
) -> None:
    source = f"import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('backup'); raise SystemExit({code})"
    found, detail = check(tmp_path, 7, restore={"command": [sys.executable, "-c", source, str(data)]})
    assert found is verdict
    assert ("a backup was restored" if code == 0 else "the restore failed") in detail
    assert data.read_text() == "backup"


def test_memory_is_a_breach_above_its_limit_only() -> None:
    limits = ProgramLimitsConfig(memory_mb=100)
    assert memory_breach(100 << 20, limits) is None
    assert memory_breach(101 << 20, limits) == "it uses 101 MB of memory, above its limit of 100 MB"
    assert memory_breach(1 << 50, ProgramLimitsConfig()) is None


def test_space_is_looked_at_where_a_path_will_be(tmp_path: Path) -> None:
    missing = tmp_path / "not" / "yet" / "t.duckdb"
    assert short_of_space(missing, ProgramLimitsConfig(disk_free_mb=1)) is None
    problem = short_of_space(missing, ProgramLimitsConfig(disk_free_mb=1 << 40))
    assert problem is not None
    assert problem.endswith(f"MB are free, below {1 << 40} MB")
