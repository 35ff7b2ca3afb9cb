"""What is known of logs that came and went between two looks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc.source.file.passing import PassingLogs
from cdc.source.format.frames import CHECKPOINT, COMMIT_FRAME, make_frame

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is of Linux")

MARKER = (
    make_frame(bytes((100, 0, CHECKPOINT)) + bytes.fromhex("6500 6400 03 6500 08 ffff ffff")) + COMMIT_FRAME
)
"""What DuckDB 2.0.1 writes into the log of a commit that skips it."""
COMMIT = make_frame(bytes((100, 0, 26, 0xFF, 0xFF))) + COMMIT_FRAME


def head(iteration: int) -> bytes:
    """A log's header: type 98, version 2, an identifier, the checkpoint it follows."""
    identifier = bytes((102, 0, 16)) + bytes(16)
    return bytes((100, 0, 98, 101, 0, 2)) + identifier + bytes((103, 0, iteration, 0xFF, 0xFF))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.db.wal"


@pytest.fixture
def passing(path: Path) -> Iterator[PassingLogs]:
    logs = PassingLogs(path)
    yield logs
    logs.close()


def come(path: Path, passing: PassingLogs, content: bytes) -> None:
    """A log stands until it was opened."""
    path.write_bytes(content)
    passing.held_no_commit(0, 0, 0)


def test_a_log_with_the_marker_alone_held_no_commit_also_once_it_is_gone(
    path: Path, passing: PassingLogs
) -> None:
    for iteration in (4, 5, 6):
        come(path, passing, head(iteration) + MARKER)
        path.unlink()
    assert passing.held_no_commit(4, 7, passing.missed)


def test_what_is_written_after_a_log_was_opened_counts(path: Path, passing: PassingLogs) -> None:
    come(path, passing, head(4))
    with path.open("ab") as log:
        log.write(COMMIT + MARKER)
    path.unlink()
    assert not passing.held_no_commit(4, 5, passing.missed)


@pytest.mark.parametrize(
    "content", [b"", head(4), head(4) + COMMIT, head(4) + MARKER + COMMIT, head(4) + MARKER[:-1]]
)
def test_any_other_log_may_have_held_one(path: Path, passing: PassingLogs, content: bytes) -> None:
    come(path, passing, content)
    path.unlink()
    assert not passing.held_no_commit(4, 5, passing.missed)


def test_one_of_several_logs_that_held_a_commit_is_found(path: Path, passing: PassingLogs) -> None:
    for iteration, content in ((4, MARKER), (5, COMMIT), (6, MARKER)):
        come(path, passing, head(iteration) + content)
        path.unlink()
    assert not passing.held_no_commit(4, 7, passing.missed)
    assert passing.held_no_commit(6, 7, passing.missed)


def test_a_log_that_nobody_saw_is_not_known_to_have_held_none(path: Path, passing: PassingLogs) -> None:
    come(path, passing, head(4) + MARKER)
    path.unlink()
    assert not passing.held_no_commit(3, 5, passing.missed)
    assert not passing.held_no_commit(4, 6, passing.missed)


def test_one_that_could_not_be_opened_is_missed(path: Path, passing: PassingLogs) -> None:
    """A link to nothing is there, and cannot be opened, like a log that is gone by then."""
    missed = passing.missed
    come(path, passing, head(4) + MARKER)
    path.unlink()
    path.symlink_to("nothing")
    assert not passing.held_no_commit(4, 5, missed)
    assert passing.missed == missed + 1
    assert passing.held_no_commit(4, 5, passing.missed)


def test_another_log_in_the_place_of_one_counts_too(path: Path, passing: PassingLogs) -> None:
    """As a writer puts there that recovers from a crash within a checkpoint."""
    come(path, passing, head(4) + MARKER)
    other = path.with_name("other")
    other.write_bytes(head(4) + COMMIT)
    other.replace(path)
    assert not passing.held_no_commit(4, 5, passing.missed)


def test_other_files_are_none_of_it(path: Path, passing: PassingLogs) -> None:
    come(path, passing, head(4) + MARKER)
    for name in ("t.db", "t.db.wal.checkpoint", "t.db.wal2"):
        path.with_name(name).write_bytes(head(4) + COMMIT)
    assert passing.held_no_commit(4, 5, 0)
    assert passing.missed == 0


def test_only_the_newest_log_is_kept_open(path: Path, passing: PassingLogs) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for iteration in range(20):
        come(path, passing, head(iteration) + MARKER)
        path.unlink()
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert passing.held_no_commit(0, 20, 0)
