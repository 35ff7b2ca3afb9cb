"""Following the log of a live writer through every kind of change: afterwards nothing is missing.

Each test keeps what a target would hold of a table and compares it with what the writer itself says. [F2]
"""

from __future__ import annotations

import pytest

from cdc.change import BatchLimits
from tests.support.followed import ROWS, Followed
from tests.support.kept import Kept, written
from tests.support.sources import plan_of
from tests.support.writers import VERSIONS


def test_inserts_updates_and_deletions_are_seen_wherever_they_lie(versions: Followed) -> None:
    for statement in (
        "INSERT INTO t VALUES (1000, 1000, 'new'), (1001, NULL, NULL)",
        "UPDATE t SET s = 'old row' WHERE id = 3",
        "UPDATE t SET s = NULL WHERE id IN (4, 1000)",
        "UPDATE t SET s = 'back', seq = seq + 1 WHERE id = 4",
        "DELETE FROM t WHERE id IN (5, 1001)",
        "UPDATE t SET s = s || id WHERE id < 50",
    ):
        versions.run(statement)
        assert versions.equal(), statement
    assert versions.heard.lost == []


def test_several_commits_between_two_reads_are_one_round(versions: Followed) -> None:
    versions.run(
        "INSERT INTO t VALUES (1000, 1000, 'a'), (1001, 1001, 'a')",
        "UPDATE t SET s = 'b' WHERE id = 1000",
        "UPDATE t SET s = 'c' WHERE id IN (1, 1000)",
        "DELETE FROM t WHERE id IN (1, 1001)",
        "INSERT INTO t VALUES (1, 1002, 'again')",
    )
    assert versions.equal()


def test_a_row_deleted_and_inserted_again_as_it_was_is_there(current: Followed) -> None:
    current.run("DELETE FROM t WHERE id = 999")
    assert current.equal()
    current.run("INSERT INTO t VALUES (999, 999, 'x')")
    assert current.equal()


def test_without_deletions_a_deleted_row_stays(followed: Followed) -> None:
    followed.write(VERSIONS[-1])
    followed.create()
    followed.follow(deletes=False)
    followed.run("DELETE FROM t WHERE id < 10", "UPDATE t SET s = 'y' WHERE id = 10")
    followed.kept.read()
    assert len(followed.kept.rows) == ROWS
    assert followed.kept.rows > written(followed.writer, "t")


@pytest.mark.parametrize("version", VERSIONS[1:])  # 1.0 cannot update what it has an index on
def test_updates_of_indexed_columns_and_of_keys_are_seen(followed: Followed, version: str) -> None:
    """DuckDB writes them as a deletion and an insertion."""
    followed.write(version)
    followed.create("id INTEGER PRIMARY KEY, seq BIGINT, s VARCHAR")
    followed.run("CREATE INDEX by_s ON t (s)", "CHECKPOINT")
    followed.follow()
    for statement in (
        "UPDATE t SET s = 'indexed' WHERE id = 7",
        "UPDATE t SET id = 5000 WHERE id = 8",
        "INSERT INTO t VALUES (1000, 1000, 'a')",
        "UPDATE t SET seq = 1001 WHERE id = 1000",
        "DELETE FROM t WHERE id = 1000",
    ):
        followed.run(statement)
        assert followed.equal(), statement
    assert followed.heard.lost == []


def test_a_key_changed_in_place_leaves_no_row_under_the_old_one(current: Followed) -> None:
    current.run("UPDATE t SET id = id + 5000 WHERE id < 3")
    assert current.equal()
    current.run("UPDATE t SET id = CASE WHEN id = 10 THEN 11 ELSE 10 END WHERE id IN (10, 11)")
    assert current.equal()


@pytest.mark.parametrize("version", VERSIONS)
def test_updates_of_nested_columns_are_seen(followed: Followed, version: str) -> None:
    followed.write(version)
    followed.create(
        "id INTEGER, seq BIGINT, s STRUCT(a INTEGER, b STRUCT(c VARCHAR)), l INTEGER[]",
        "i, i, CASE WHEN i % 2 = 0 THEN {'a': i, 'b': {'c': 'x'}} END, [i, NULL]",
    )
    followed.follow()
    for statement in (
        "UPDATE t SET s = {'a': 1, 'b': {'c': 'y'}} WHERE id IN (2, 3)",
        "UPDATE t SET s = {'a': NULL, 'b': {'c': NULL}} WHERE id IN (2, 5)",
        "UPDATE t SET s = {'a': 4, 'b': NULL} WHERE id IN (5, 6)",
        "UPDATE t SET s = NULL WHERE id IN (2, 8)",
        "UPDATE t SET s = {'a': 9, 'b': {'c': 'z'}} WHERE id IN (2, 7)",
        "UPDATE t SET l = [1, 2, 3] WHERE id = 2",
        "UPDATE t SET l = NULL WHERE id = 4",
    ):
        followed.run(statement)
        assert followed.equal(), statement
    assert followed.heard.lost == []


def test_changes_of_other_tables_do_not_disturb(versions: Followed) -> None:
    versions.run(
        "CREATE TABLE other (x INTEGER)",
        "INSERT INTO other VALUES (1)",
        "ALTER TABLE other ADD COLUMN y INTEGER",
        "CREATE INDEX by_x ON other (x)",
        "CREATE SEQUENCE numbers",
        "CREATE VIEW v AS FROM other",
        "UPDATE t SET s = 'after' WHERE id = 1",
        "DROP VIEW v",
        "DROP TABLE other",
    )
    assert versions.equal()
    versions.run("CREATE INDEX by_s ON t (s)", "UPDATE t SET seq = -1 WHERE id = 2")
    assert versions.equal()
    assert versions.heard.lost == []


def test_a_column_added_loses_the_log_and_the_next_checkpoint_shows_what_was_updated(
    current: Followed,
) -> None:
    current.run(
        "ALTER TABLE t ADD COLUMN more INTEGER",
        "UPDATE t SET s = 'unseen' WHERE id = 1",
        "INSERT INTO t VALUES (1000, 1000, 'new', 1)",
    )
    current.kept.read()
    assert current.heard.lost == ["the table was altered or dropped"]
    current.run("CHECKPOINT")
    current.kept.read()
    assert current.kept.rows == written(current.writer, "t", ("id", "seq", "s"))
    current.run("UPDATE t SET s = 'seen' WHERE id = 2")
    current.kept.read()
    assert current.kept.rows == written(current.writer, "t", ("id", "seq", "s"))


def test_truncate_is_the_deletion_of_every_row(versions: Followed) -> None:
    versions.run("TRUNCATE t")
    assert versions.equal()
    versions.run("INSERT INTO t VALUES (1, 1, 'after')")
    assert versions.equal()
    assert len(versions.kept.rows) == 1


def test_a_table_dropped_and_made_again_is_read_from_its_beginning(versions: Followed) -> None:
    """The rows of the dropped table stay: only a DELETE or TRUNCATE says that they are no more."""
    old = written(versions.writer, "t")
    versions.run(
        "DROP TABLE t",
        "CREATE TABLE t (id INTEGER, seq BIGINT, s VARCHAR)",
        "INSERT INTO t SELECT i, i, 'again' FROM range(10) AS r(i)",
    )
    versions.kept.read()
    assert versions.kept.rows == written(versions.writer, "t") | {
        row for row in old if int(row[0] or 0) >= 10
    }


def test_a_row_that_returns_to_what_a_long_snapshot_still_shows_is_not_left_behind(current: Followed) -> None:
    """The log shows A → B while the snapshot has the row at A yet to hand out; then B → A. [R3]"""
    current.kept = Kept(current.source, plan_of(current.source, "t"))
    few = BatchLimits(rows=100, bytes=32 << 20)
    batches = current.kept.reader.read(None, few)
    current.kept.take(next(batches))
    current.run("UPDATE t SET s = 'B' WHERE id = 995")
    for batch in batches:
        current.kept.take(batch)
        if batch.rows.column("id")[-1].as_py() == ROWS - 1:
            current.run("UPDATE t SET s = 'x' WHERE id = 995")
    assert current.equal()
