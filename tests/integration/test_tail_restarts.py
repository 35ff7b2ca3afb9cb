"""Following a log that breaks off: its writer, its reader or DuckDB ends, or it cannot be read.

[R3 issue 3]
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cdc.errors import SourceReplaced
from cdc.source.table.digests import RangeDigests, read_digests
from cdc.source.tail.touched import Changes, TouchedRows
from cdc.source.tail.twin import Decoded
from tests.support.followed import Followed
from tests.support.kept import Kept, written
from tests.support.sources import plan_of
from tests.support.writers import VERSIONS, Writer


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
    monkeypatch.setattr("cdc.source.tail.follow.FRAMED", 4)
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
    assert versions.kept.broken == []


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
    assert versions.kept.broken == ["rows may have been deleted while the log was not followed"]


def test_a_fatal_error_of_duckdb_starts_it_afresh_and_the_log_is_followed_again(
    current: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[R3] As does each tail of the same source, of which the first to meet it starts DuckDB afresh."""
    current.run("CREATE TABLE u (id INTEGER, seq BIGINT)", "INSERT INTO u VALUES (1, 1)")
    other = Kept(current.source, plan_of(current.source, "u"))
    assert current.equal()
    other.read()

    apply, ends = TouchedRows.apply, [duckdb.FatalException("it has ended")]

    def fail_once(touched_rows: TouchedRows, decoded: Decoded, inserts: Sequence[bytes]) -> Changes:
        if ends:
            raise ends.pop()
        return apply(touched_rows, decoded, inserts)

    monkeypatch.setattr(TouchedRows, "apply", fail_once)
    current.run("INSERT INTO t VALUES (1000, 1000, 'a')", "INSERT INTO u VALUES (2, 2)")
    assert current.equal()
    assert current.heard.lost == ["it has ended"]
    other.read()
    assert other.rows == written(current.writer, "u")
    current.run("CHECKPOINT")
    assert current.equal()
    current.run("UPDATE t SET s = 'c' WHERE id = 2")
    assert current.equal()


def test_it_is_told_that_updates_are_seen_late_while_the_log_is_not_followed(current: Followed) -> None:
    for column in ("a", "b"):
        current.run(f"ALTER TABLE t ADD COLUMN {column} INTEGER")
        current.kept.read()
    assert current.kept.broken
    assert all("before the writer's next checkpoint" in told for told in current.kept.broken)
    current.run("UPDATE t SET s = 'late' WHERE id = 1")
    current.kept.read()
    assert ("1", "1", "x") in current.kept.rows
    current.run("CHECKPOINT")
    current.kept.read()
    assert current.kept.rows == written(current.writer, "t", ("id", "seq", "s"))


def test_a_table_whose_updates_move_its_watermark_needs_no_such_word(followed: Followed) -> None:
    """Where its deletions are ignored."""
    followed.write(VERSIONS[-1])
    followed.create()
    followed.follow(deletes=False)
    followed.kept.reader.close()
    followed.kept = Kept(followed.source, plan_of(followed.source, "t", version="seq"))
    followed.kept.read()
    followed.run("ALTER TABLE t ADD COLUMN a INTEGER", "UPDATE t SET seq = 2000, s = 'u' WHERE id = 1")
    followed.kept.read()
    assert ("1", "2000", "u") in followed.kept.rows
    assert followed.kept.broken == []


def test_a_checkpoint_while_what_the_target_holds_is_looked_at_is_met_by_the_next_read(
    current: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB reports it as an error of its own, for its reads failed."""
    current.kept = Kept(current.source, plan_of(current.source, "t"))
    overtaken: list[str] = []

    def overtake(*arguments: Any) -> RangeDigests:
        if not overtaken:
            overtaken.append("once")
            current.run("UPDATE t SET s = 'u' WHERE id < 5", "CHECKPOINT")
            raise duckdb.Error("its reads failed")
        return read_digests(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("cdc.source.table.resend.read_digests", overtake)
        current.kept.read()
    assert overtaken
    assert current.equal()
