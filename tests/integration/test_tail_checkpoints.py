"""Following the log of a live writer across its checkpoints: afterwards nothing is missing.

[F2 R3 issue 3]
"""

from __future__ import annotations

import pytest

from cdc.source import open_source
from tests.support.followed import Followed
from tests.support.kept import Kept
from tests.support.sources import plan_of
from tests.support.waiting import wait_until
from tests.support.writers import OLDER, VERSIONS


def test_a_bulk_load_that_leaves_row_groups_in_the_file_is_seen(followed: Followed) -> None:
    followed.write(VERSIONS[-1], config={"checkpoint_threshold": "1GB"})
    followed.create()
    followed.follow()
    followed.run(
        "BEGIN",
        "INSERT INTO t SELECT i, i, 'bulk' FROM range(1000, 131000) AS r(i)",
        "UPDATE t SET s = 'with it' WHERE id = 1",
        "COMMIT",
    )
    followed.kept.read()
    assert followed.heard.lost == ["a bulk load left its rows in the file"]
    assert len(followed.kept.rows) == 131_000
    followed.run("CHECKPOINT")
    assert followed.equal()
    followed.run("UPDATE t SET s = 'later' WHERE id IN (5, 100000)")
    assert followed.equal()
    assert len(followed.kept.broken) == 2  # at once, and after the checkpoint for what came before it


@pytest.mark.parametrize("version", VERSIONS)
def test_commits_that_skip_the_log_are_found_after_their_checkpoint(followed: Followed, version: str) -> None:
    """A commit that triggers a checkpoint may go into the file alone."""
    followed.write(version, config={"checkpoint_threshold": "1MB"})
    followed.create()
    followed.follow()
    followed.run("INSERT INTO t SELECT i, i, 'bulk ' || i FROM range(1000, 41000) AS r(i)")
    assert followed.equal()
    followed.run("UPDATE t SET s = 'all ' || id WHERE id < 30000")
    assert followed.equal()
    assert sum(followed.heard.gaps) in (0, 40_000)
    followed.run("INSERT INTO t SELECT i, -i, 'before the mark' FROM range(41000, 81000) AS r(i)")
    assert followed.equal()


def test_rows_that_skipped_the_log_are_counted(followed: Followed) -> None:
    slow = {"debug_checkpoint_scan_sleep_ms": "200"}  # so that the log it has since 2.0.1 is seen in time
    followed.write(VERSIONS[-1], config={"checkpoint_threshold": "1MB", **slow})
    followed.create()
    followed.follow()
    followed.run("INSERT INTO t VALUES (1000, 1000, 'in the log')")
    assert followed.equal()
    followed.run("INSERT INTO t VALUES (1001, 1001, 'at its end')", "CHECKPOINT")
    assert followed.equal()
    assert followed.heard.gaps == [], followed.heard
    followed.run("INSERT INTO t SELECT i, i, repeat('b', 100) FROM range(1002, 101002) AS r(i)")
    assert followed.equal()
    assert followed.heard.gaps == [100_000]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_end_of_a_log_is_read_after_its_checkpoint(followed: Followed, version: str) -> None:
    """The file of DuckDB 2.0's log is kept open; DuckDB 1.x empties it in place, so that updates at its end
    are looked for in the row groups that the checkpoint wrote."""
    followed.write(version)
    followed.create()
    followed.follow()
    followed.run("UPDATE t SET s = 'first' WHERE id = 0")
    assert followed.equal()
    for turn in range(4):
        followed.run(
            f"INSERT INTO t VALUES ({1000 + turn}, {1000 + turn}, 'a')",
            f"UPDATE t SET s = 'turn {turn}' WHERE id = {turn} OR id = {998 + turn}",
            "CHECKPOINT",
            f"UPDATE t SET s = 'after {turn}' WHERE id IN ({turn}, {100 + turn})",
        )
        assert followed.equal(), turn
    assert followed.heard.gaps == [] or version in OLDER
    assert followed.kept.broken == []


def test_after_two_checkpoints_between_reads_a_small_table_is_read_whole(versions: Followed) -> None:
    versions.run(
        "UPDATE t SET s = 'one' WHERE id = 1",
        "INSERT INTO t VALUES (1000, 1000, 'a')",
        "CHECKPOINT",
        "INSERT INTO t VALUES (1001, 1001, 'b')",
        "UPDATE t SET s = 'two' WHERE id = 2",
        "CHECKPOINT",
        "INSERT INTO t VALUES (1002, 1002, 'c')",
    )
    assert versions.equal()
    assert versions.kept.broken == ["rows may have been deleted while the log was not followed"]
    versions.run("UPDATE t SET s = 'seen again' WHERE id IN (1, 2)")
    assert versions.equal()


def test_deletions_that_the_log_did_not_show_are_told(current: Followed) -> None:
    current.run(
        "DELETE FROM t WHERE id < 3", "CHECKPOINT", "INSERT INTO t VALUES (1000, 1000, 'a')", "CHECKPOINT"
    )
    current.kept.read()
    [told] = current.kept.broken
    assert told == "rows may have been deleted while the log was not followed"


def test_commits_during_a_checkpoint_are_followed_in_its_own_log(followed: Followed) -> None:
    """Several connections: one loads, another changes so much that its commit checkpoints."""
    writer = followed.write(VERSIONS[-1], config={"checkpoint_threshold": "1MB"})
    writer.run("CREATE TABLE t (id BIGINT, v BIGINT)")
    writer.run("CREATE TABLE big AS SELECT uuid() AS u FROM range(500000)")
    followed.source = followed.stack.enter_context(
        open_source(followed.path, deletes=True, events=followed.heard)
    )
    followed.kept = Kept(followed.source, plan_of(followed.source, "t", watermark="id"))
    writer.load("t", rows=20, transfers=2)
    for _ in range(6):
        writer.run("UPDATE big SET u = uuid() WHERE random() < 0.2")
        followed.kept.read()
    writer.pause()
    assert followed.equal()
    # On a busy machine two checkpoints may come between two looks: the log between is not seen, and told.
    assert set(followed.kept.broken) <= {"rows may have been deleted while the log was not followed"}
    assert followed.heard.gaps == [], followed.heard


def test_row_ids_go_on_past_the_row_groups_that_a_checkpoint_dropped(followed: Followed) -> None:
    """DuckDB 2.0 leaves a gap where 1.x numbers anew."""
    followed.write(VERSIONS[-1])
    followed.writer.run("CREATE TABLE t AS SELECT i AS id, i AS seq, 'x' AS s FROM range(140000) AS r(i)")
    followed.writer.run("CHECKPOINT")
    followed.follow()
    for statement in (
        "DELETE FROM t WHERE id < 130000",
        "CHECKPOINT",
        "INSERT INTO t VALUES (140000, 140000, 'a')",
        "UPDATE t SET s = 'u' WHERE id IN (135000, 140000)",
        "DELETE FROM t WHERE id IN (139999, 140000)",
        "CHECKPOINT",
        "INSERT INTO t VALUES (140001, 140001, 'a')",
        "UPDATE t SET s = 'v' WHERE id IN (135001, 140001)",
        "DELETE FROM t WHERE id IN (135002, 140001)",
    ):
        followed.run(statement)
        assert followed.equal(), statement
    assert followed.heard.lost == []


def test_a_busy_writer_of_everything_is_followed_to_the_last_row(followed: Followed) -> None:
    writer = followed.write(VERSIONS[-1], config={"checkpoint_threshold": "64KB"})
    writer.run("CREATE TABLE t (id BIGINT, v BIGINT)")
    followed.source = followed.stack.enter_context(open_source(followed.path, events=followed.heard))
    followed.kept = Kept(followed.source, plan_of(followed.source, "t", watermark="id"))
    writer.load("t", rows=5, transfers=2)

    def enough() -> bool:
        followed.kept.read()
        return writer.committed > 5_000

    wait_until(enough, "5,000 rows are committed", seconds=60)
    writer.pause()
    assert followed.equal()


def test_of_an_empty_table_no_change_can_have_been_missed(followed: Followed) -> None:
    followed.write(VERSIONS[-1])
    followed.run("CREATE TABLE t (id INTEGER, seq BIGINT, s VARCHAR)", "CHECKPOINT")
    followed.follow(deletes=False)
    followed.run("CREATE TABLE u (x INTEGER)", "CHECKPOINT", "INSERT INTO u VALUES (1)", "CHECKPOINT")
    assert followed.equal()
    assert followed.kept.broken == []
