"""Following the log of a live writer through everything that may happen to it: afterwards nothing is missing.

Each test keeps what a target would hold of a table and compares it with what the writer itself says. [F2]
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import duckdb
import pytest

from cdc.change import BatchLimits
from cdc.errors import SourceReplaced
from cdc.source import DuckDbSource, open_source
from cdc.source.mirror import Changes, Mirror
from cdc.source.twin import Decoded
from tests.support.kept import Heard, Kept, written
from tests.support.sources import plan_of
from tests.support.waiting import wait_until
from tests.support.writers import OLDER, VERSIONS, Writer

ROWS = 1_000


class Followed:
    """A writer with one table, a source that follows it, and what was kept of the table."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self._stack = stack
        self.heard = Heard()
        self.writer: Writer
        self.version = ""
        self.source: DuckDbSource
        self.kept: Kept

    def write(self, version: str, config: dict[str, str] | None = None, attach: str | None = None) -> Writer:
        self.version = version
        self.writer = self._stack.enter_context(Writer(self.path, version, config, attach))
        return self.writer

    def create(self, columns: str = "id INTEGER, seq BIGINT, s VARCHAR", rows: str = "i, i, 'x'") -> None:
        """The table `t` with `ROWS` rows in the file and an empty log."""
        self.writer.run(f"CREATE TABLE t ({columns})")
        self.writer.run(f"INSERT INTO t SELECT {rows} FROM range({ROWS}) AS r(i)")
        self.writer.run("CHECKPOINT")

    def follow(self, *, deletes: bool = True, encryption_key: str | None = None) -> None:
        """Open the source, and read what there is. The overlap is 0, so that a snapshot past the mark shows
        no update."""
        self.source = self._stack.enter_context(
            open_source(self.path, deletes=deletes, events=self.heard, encryption_key=encryption_key)
        )
        self.kept = Kept(self.source, plan_of(self.source, "t"))
        self.kept.read()

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.writer.run(statement)

    def equal(self) -> bool:
        """Whether what is kept, after one read, is what the writer has."""
        self.kept.read()
        return self.kept.rows == written(self.writer, "t")


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    with ExitStack() as stack:
        yield Followed(tmp_path / "t.db", stack)


@pytest.fixture(params=VERSIONS)
def versions(followed: Followed, request: pytest.FixtureRequest) -> Followed:
    """Followed, with a writer of each version in turn."""
    followed.write(request.param)
    followed.create()
    followed.follow()
    return followed


@pytest.fixture
def current(followed: Followed) -> Followed:
    followed.write(VERSIONS[-1])
    followed.create()
    followed.follow()
    return followed


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
    assert len(followed.heard.broken) == 1


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
    followed.write(VERSIONS[-1], config={"checkpoint_threshold": "1MB"})
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
    assert followed.heard.broken == []


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
    assert versions.heard.broken == []
    versions.run("UPDATE t SET s = 'seen again' WHERE id IN (1, 2)")
    assert versions.equal()


def test_of_a_large_table_it_is_said_that_updates_may_be_missing(
    current: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.source.tailing._MOST_ROWS_AGAIN", 100)
    current.run("UPDATE t SET s = 'one' WHERE id = 1", "CHECKPOINT")
    current.run("INSERT INTO t VALUES (1000, 1000, 'a')", "CHECKPOINT")
    current.kept.read()
    assert ("1000", "1000", "a") in current.kept.rows
    assert current.heard.broken == ["checkpoints came while the log was not followed"]


def test_deletions_that_the_log_did_not_show_are_told(current: Followed) -> None:
    current.run(
        "DELETE FROM t WHERE id < 3", "CHECKPOINT", "INSERT INTO t VALUES (1000, 1000, 'a')", "CHECKPOINT"
    )
    current.kept.read()
    [told] = current.heard.broken
    assert told.endswith("rows were deleted without the log")


def test_commits_during_a_checkpoint_are_followed_in_its_own_log(followed: Followed) -> None:
    """Several connections: one loads, another changes so much that its commit checkpoints."""
    writer = followed.write(VERSIONS[-1], config={"checkpoint_threshold": "1MB"})
    writer.run("CREATE TABLE t (id BIGINT, v BIGINT)")
    writer.run("CREATE TABLE big AS SELECT uuid() AS u FROM range(500000)")
    followed.source = followed._stack.enter_context(
        open_source(followed.path, deletes=True, events=followed.heard)
    )
    followed.kept = Kept(followed.source, plan_of(followed.source, "t", watermark="id"))
    writer.load("t", rows=20, transfers=2)
    for _ in range(6):
        writer.run("UPDATE big SET u = uuid() WHERE random() < 0.2")
        followed.kept.read()
    writer.pause()
    assert followed.equal()
    assert followed.heard.broken == []
    assert followed.heard.gaps == [], followed.heard


def test_rolled_back_and_torn_ends_of_a_log_are_not_handed_out(versions: Followed) -> None:
    """A writer is killed within a transaction, and within a commit; it comes back and goes on. [R3]"""
    versions.run("INSERT INTO t VALUES (1000, 1000, 'a')")
    assert versions.equal()
    versions.run("BEGIN", "INSERT INTO t VALUES (1001, 1001, 'rolled back')", "ROLLBACK")
    versions.run("BEGIN", "INSERT INTO t VALUES (1002, 1002, 'killed')")
    versions.writer.kill()
    log = Path(f"{versions.path}.wal")
    whole = log.read_bytes()
    log.write_bytes(whole + whole[-40:-3])
    versions.kept.read()
    versions.write(versions.version)
    assert versions.equal()
    versions.run("INSERT INTO t VALUES (1001, 1001, 'after')", "UPDATE t SET s = 'u' WHERE id IN (1, 1000)")
    versions.kept.read()
    versions.run("CHECKPOINT", "UPDATE t SET s = 'v' WHERE id = 2")
    assert versions.equal()


def test_a_writer_that_checkpoints_when_it_opens_is_followed(versions: Followed) -> None:
    """Killed, it leaves its log, which the next one takes into the file before it goes on. [R3]"""
    for turn in range(3):
        versions.run(
            f"INSERT INTO t VALUES ({1000 + turn}, {1000 + turn}, 'a')",
            f"UPDATE t SET s = 'k{turn}' WHERE id = 5",
        )
        assert versions.equal()
        versions.writer.kill()
        versions.write(versions.version)
        versions.run(f"UPDATE t SET s = 'l{turn}' WHERE id = 6")
        assert versions.equal()


def test_a_clean_restart_of_the_writer_is_followed(versions: Followed) -> None:
    versions.run("UPDATE t SET s = 'before' WHERE id = 5")
    assert versions.equal()
    versions.writer.close()
    versions.write(versions.version)
    versions.run("INSERT INTO t VALUES (1000, 1000, 'a')", "UPDATE t SET s = 'after' WHERE id = 6")
    assert versions.equal()


def test_another_file_at_the_path_is_refused(current: Followed, tmp_path: Path) -> None:
    with Writer(tmp_path / "other.db") as other:
        other.run("CREATE TABLE t (id INTEGER, seq BIGINT, s VARCHAR)")
    current.writer.close()
    shutil.move(tmp_path / "other.db", current.path)
    with pytest.raises(SourceReplaced):
        current.kept.read()


def test_an_encrypted_log_is_read_in_snapshots_with_one_event(followed: Followed) -> None:
    followed.write(VERSIONS[-1], {"force_mbedtls_unsafe": "true"}, "ENCRYPTION_KEY 'secret'")
    followed.create()
    followed.follow(encryption_key="secret")
    for row in range(1000, 1003):
        followed.run(f"INSERT INTO t VALUES ({row}, {row}, 'a')")
        assert followed.equal()
    assert followed.heard.lost == ["the log is encrypted"]


def test_a_log_of_an_unknown_version_is_read_in_snapshots_with_one_event(
    current: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.source.follow.FRAMED", 4)
    current.kept.reopen(current.source)
    for row in range(1000, 1003):
        current.run(f"INSERT INTO t VALUES ({row}, {row}, 'a')")
        assert current.equal()
    assert current.heard.lost == ["the log is of version 2"]


def test_a_restart_goes_on_in_the_same_log(versions: Followed) -> None:
    """[R3] Updates of old rows made while nothing ran are in the log still."""
    versions.run("INSERT INTO t VALUES (1000, 1000, 'a')", "UPDATE t SET s = 'a' WHERE id = 1")
    assert versions.equal()
    versions.run("UPDATE t SET s = 'meanwhile' WHERE id IN (2, 1000)", "DELETE FROM t WHERE id = 3")
    versions.kept.reopen(versions.source)
    assert versions.equal()
    assert versions.heard.broken == []


def test_a_restart_after_a_checkpoint_reads_a_small_table_whole(versions: Followed) -> None:
    versions.run("INSERT INTO t VALUES (1000, 1000, 'a')")
    assert versions.equal()
    versions.run(
        "INSERT INTO t VALUES (1001, 1001, 'b')",
        "UPDATE t SET s = 'meanwhile' WHERE id = 1",
        "CHECKPOINT",
        "INSERT INTO t VALUES (1002, 1002, 'c')",
    )
    versions.kept.reopen(versions.source)
    assert versions.equal()
    assert versions.heard.broken == ["rows may have been deleted while the log was not followed"]


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
    followed.source = followed._stack.enter_context(open_source(followed.path, events=followed.heard))
    followed.kept = Kept(followed.source, plan_of(followed.source, "t", watermark="id"))
    writer.load("t", rows=5, transfers=2)

    def enough() -> bool:
        followed.kept.read()
        return writer.committed > 5_000

    wait_until(enough, "5,000 rows are committed", seconds=60)
    writer.pause()
    assert followed.equal()


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


def test_a_fatal_error_of_duckdb_starts_it_afresh_and_the_log_is_followed_again(
    current: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[R3] As does each tail of the same source, of which the first to meet it starts DuckDB afresh."""
    current.run("CREATE TABLE u (id INTEGER, seq BIGINT)", "INSERT INTO u VALUES (1, 1)")
    other = Kept(current.source, plan_of(current.source, "u"))
    assert current.equal()
    other.read()

    apply, ends = Mirror.apply, [duckdb.FatalException("it has ended")]

    def fail_once(mirror: Mirror, decoded: Decoded, inserts: Sequence[bytes]) -> Changes:
        if ends:
            raise ends.pop()
        return apply(mirror, decoded, inserts)

    monkeypatch.setattr(Mirror, "apply", fail_once)
    current.run("INSERT INTO t VALUES (1000, 1000, 'a')", "INSERT INTO u VALUES (2, 2)")
    assert current.equal()
    assert current.heard.lost == ["it has ended"]
    other.read()
    assert other.rows == written(current.writer, "u")
    current.run("CHECKPOINT")
    assert current.equal()
    current.run("UPDATE t SET s = 'c' WHERE id = 2")
    assert current.equal()


def test_it_is_told_once_that_updates_are_seen_late_while_the_log_is_not_followed(current: Followed) -> None:
    for column in ("a", "b"):
        current.run(f"ALTER TABLE t ADD COLUMN {column} INTEGER")
        current.kept.read()
    [told] = current.heard.broken
    assert "before the writer's next checkpoint" in told
    current.run("UPDATE t SET s = 'late' WHERE id = 1")
    current.kept.read()
    assert ("1", "1", "x") in current.kept.rows
    current.run("CHECKPOINT")
    current.kept.read()
    assert current.kept.rows == written(current.writer, "t", ("id", "seq", "s"))


def test_a_table_whose_updates_move_its_watermark_needs_no_such_word(current: Followed) -> None:
    current.kept.reader.close()
    current.kept = Kept(current.source, plan_of(current.source, "t", version="seq"))
    current.kept.read()
    current.run("ALTER TABLE t ADD COLUMN a INTEGER", "UPDATE t SET seq = 2000, s = 'u' WHERE id = 1")
    current.kept.read()
    assert ("1", "2000", "u") in current.kept.rows
    assert current.heard.broken == []


def test_of_an_empty_table_no_change_can_have_been_missed(followed: Followed) -> None:
    followed.write(VERSIONS[-1])
    followed.run("CREATE TABLE t (id INTEGER, seq BIGINT, s VARCHAR)", "CHECKPOINT")
    followed.follow(deletes=False)
    followed.run("CREATE TABLE u (x INTEGER)", "CHECKPOINT", "INSERT INTO u VALUES (1)", "CHECKPOINT")
    assert followed.equal()
    assert followed.heard.broken == []
