"""What is counted as a gap: rows that a snapshot found and the log, followed without a break, never showed.

[R3 issue 3]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cdc.change import BatchLimits
from cdc.source import database
from tests.support.followed import ROWS, Followed
from tests.support.kept import Kept
from tests.support.sources import plan_of
from tests.support.writers import OLDER, VERSIONS

FEW = BatchLimits(rows=100, bytes=32 << 20)
UNREAD = "a log, or the end of one, may have come and gone between two reads"

BULK = 2_000
SLOW = {"debug_checkpoint_scan_sleep_ms": "200"}
"""What a checkpoint takes at least. Since DuckDB 2.0.1 a commit that skips the log has one of its own
meanwhile, which must be opened in time, on a busy machine too, for its rows to be counted."""


@pytest.fixture(params=VERSIONS)
def versions(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Followed]:
    """A writer of each version in turn."""
    yield from following(tmp_path, request.param)


@pytest.fixture
def current(tmp_path: Path) -> Iterator[Followed]:
    yield from following(tmp_path, VERSIONS[-1])


def following(directory: Path, version: str) -> Iterator[Followed]:
    config = {} if version in OLDER else {"auto_checkpoint_skip_wal_threshold": str(BULK), **SLOW}
    with ExitStack() as stack:
        followed = Followed(directory / "t.db", stack)
        followed.write(version, config)
        followed.create()
        followed.follow()
        yield followed


def bulk(first: int, rows: int = BULK, threshold: str = "1KB") -> tuple[str, ...]:
    """A commit of `rows`, from the key `first` on, that goes into the file alone, for it checkpoints."""
    return (
        f"SET checkpoint_threshold = '{threshold}'",
        f"INSERT INTO t SELECT i, i, 'b' || i FROM range({first}, {first + rows}) AS r(i)",
        "SET checkpoint_threshold = '1GB'",
    )


def test_each_commit_that_skips_the_log_is_counted(versions: Followed) -> None:
    versions.run("INSERT INTO t VALUES (1000, 1000, 'in the log')")
    assert versions.equal()
    versions.run("INSERT INTO t VALUES (1001, 1001, 'at its end')", *bulk(2_000))
    assert versions.equal()
    versions.run("INSERT INTO t VALUES (4000, 4000, 'in the next one')")
    assert versions.equal()
    versions.run(*bulk(5_000))
    assert versions.equal()
    assert versions.heard.gaps == [BULK, BULK]
    assert versions.heard.lost == []


def test_commits_that_skip_the_log_one_after_another_are_counted_together(versions: Followed) -> None:
    """No log came in between: the directory is as it was."""
    versions.run(*bulk(1_000), *bulk(3_000), *bulk(5_000))
    assert versions.equal()
    assert versions.heard.gaps == [3 * BULK]
    assert versions.heard.lost == []


def test_rows_of_a_log_that_came_and_went_unread_are_no_gap_and_it_is_told(versions: Followed) -> None:
    versions.run("INSERT INTO t VALUES (1000, 1000, 'a')")
    assert versions.equal()
    versions.run(
        "INSERT INTO t VALUES (1001, 1001, 'at the end of the log')",
        "CHECKPOINT",
        "INSERT INTO t VALUES (1002, 1002, 'in a log of its own')",
        "CHECKPOINT",
    )
    assert versions.equal()
    assert versions.heard.gaps == []
    assert versions.heard.lost == [UNREAD]


def test_so_are_rows_of_the_first_log_after_there_was_none(versions: Followed) -> None:
    versions.run("INSERT INTO t VALUES (1000, 1000, 'a')", "CHECKPOINT")
    assert versions.equal()
    assert versions.heard.gaps == []
    assert versions.heard.lost == [UNREAD]


def test_where_no_one_tells_of_logs_in_time_such_a_commit_is_counted_or_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB 2.0.0 makes no log for it."""
    monkeypatch.setattr(database, "passing_logs", lambda path: None)
    for blind in following(tmp_path, VERSIONS[-1]):
        blind.run(*bulk(2_000))
        assert blind.equal()
        assert (blind.heard.gaps, blind.heard.lost) in (([BULK], []), ([], [UNREAD]))


def test_after_an_unread_log_gaps_are_counted_again(current: Followed) -> None:
    current.run("INSERT INTO t VALUES (1000, 1000, 'a')", "CHECKPOINT")
    assert current.equal()
    current.run(*bulk(2_000))
    assert current.equal()
    assert current.heard.gaps == [BULK]


def test_a_first_snapshot_has_no_gap_whatever_checkpoints_come_while_it_is_read(current: Followed) -> None:
    current.kept = Kept(current.source, plan_of(current.source, "t"))
    batches = current.kept.reader.read(None, FEW)
    current.kept.take(next(batches))
    current.run("INSERT INTO t VALUES (1000, 1000, 'a')")
    current.kept.take(next(batches))
    current.run("INSERT INTO t VALUES (1001, 1001, 'b')", "CHECKPOINT")
    for batch in batches:
        current.kept.take(batch)
    assert current.equal()
    assert current.heard.gaps == []
    current.run(*bulk(2_000))
    assert current.equal()
    assert current.heard.gaps == [BULK]


def test_rows_that_the_log_shows_while_the_snapshot_is_read_are_no_gap_across_a_checkpoint(
    current: Followed,
) -> None:
    """They are committed after the tail has looked and before the snapshot is taken."""
    current.run("INSERT INTO t VALUES (1000, 1000, 'a')")
    assert current.equal()
    current.run(
        "INSERT INTO t VALUES (1001, 1001, 'b')", "CHECKPOINT", "INSERT INTO t VALUES (1002, 1002, 'b')"
    )
    batches = current.kept.reader.read(current.kept.mark, FEW)
    current.kept.take(next(batches))
    current.run("INSERT INTO t SELECT i, i, 'c' FROM range(2000, 2300) AS r(i)")
    current.kept.take(next(batches))
    current.run("CHECKPOINT", "INSERT INTO t VALUES (3000, 3000, 'd')")
    for batch in batches:
        current.kept.take(batch)
    assert current.equal()
    assert current.heard.gaps == []
    assert current.heard.lost == []


def test_a_commit_that_skips_the_log_is_counted_to_the_row_beside_others(current: Followed) -> None:
    """Another connection commits before, during and after its checkpoint."""
    current.run("CREATE TABLE u (id BIGINT, v BIGINT)")
    current.writer.load("u", rows=1, pause=0.01)
    for first in range(10_000, 50_000, 10_000):
        current.run(f"INSERT INTO t VALUES ({first - 2}, {first - 2}, 'in the log')")
        current.kept.read()
        current.run(f"INSERT INTO t VALUES ({first - 1}, {first - 1}, 'at its end')")
        current.run(*bulk(first, rows=8_000, threshold="64KB"))  # which the other's commits do not reach
        current.run(f"INSERT INTO t VALUES ({first + 8_000}, {first + 8_000}, 'in the next one')")
        current.kept.read()
    current.writer.pause()
    assert current.equal()
    assert current.heard.gaps == 4 * [8_000], current.heard
    assert current.heard.lost == []


def test_rows_that_such_a_commit_puts_before_the_mark_are_counted(current: Followed) -> None:
    current.run("SET checkpoint_threshold = '1KB'")
    current.run(f"INSERT INTO t SELECT i, -i, 'b' || i FROM range(2000, {2000 + BULK}) AS r(i)")
    assert current.equal()
    assert current.heard.gaps == [BULK]


def test_rows_that_the_filter_leaves_out_are_not(current: Followed) -> None:
    current.kept = Kept(current.source, plan_of(current.source, "t", filter="id % 4 = 0"))
    current.kept.read()
    current.run(*bulk(2_000))
    current.kept.read()
    assert len(current.kept.rows) == (ROWS + BULK) / 4
    assert current.heard.gaps == [BULK / 4]


def test_a_restart_while_such_a_commit_is_delivered_finds_the_rest_of_it(current: Followed) -> None:
    """[R3] Though a later commit, which is in the log, was delivered before."""
    current.run("INSERT INTO t VALUES (1000, 1000, 'in the log')")
    assert current.equal()
    current.run(*bulk(2_000), "INSERT INTO t VALUES (5000, 5000, 'in the next one'), (-1, 6000, 'and there')")
    batches = current.kept.reader.read(current.kept.mark, FEW)
    for _ in range(3):
        current.kept.take(next(batches))
    current.kept.reopen(current.source)
    assert current.equal()
