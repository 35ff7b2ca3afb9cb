"""A log that is not followed: each checkpoint, and each commit, may hold changes that are not seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cdc.source import open_source
from tests.support.clock import FakeClock
from tests.support.kept import Heard, Kept
from tests.support.sources import plan_of
from tests.support.writers import Writer


def test_each_checkpoint_of_a_log_that_is_not_followed_tells_that_changes_may_go_unseen(
    tmp_path: Path,
) -> None:  # [R3]
    path, heard, clock = tmp_path / "t.db", Heard(), FakeClock()
    with (
        Writer(path, config={"force_mbedtls_unsafe": "true"}, attach="ENCRYPTION_KEY 'secret'") as writer,
        open_source(path, deletes=True, events=heard, encryption_key="secret", clock=clock) as source,
    ):
        writer.run("CREATE TABLE t (id INTEGER, seq BIGINT)")
        writer.run("INSERT INTO t SELECT i, i FROM range(1000) AS r(i)")
        writer.run("CHECKPOINT")
        kept = Kept(source, plan_of(source, "t"))
        kept.read()
        writer.run("INSERT INTO t VALUES (1000, 1000)")  # begins the log, which counts as one
        kept.read()
        told = len(kept.broken)
        for row in range(1001, 1004):
            writer.run(f"INSERT INTO t VALUES ({row}, {row})")
            kept.read()
        assert len(kept.broken) == told
        writer.run("CHECKPOINT")
        kept.read()
        assert len(kept.broken) == told + 1
        assert all("the log is encrypted" in each for each in kept.broken)


def test_while_an_altered_table_is_read_in_snapshots_each_commit_may_be_a_deletion(tmp_path: Path) -> None:
    """Also where every update moves the watermark: a deletion never does. [R3]"""
    path, heard, clock = tmp_path / "t.db", Heard(), FakeClock()
    with (
        Writer(path) as writer,
        open_source(path, deletes=True, events=heard, clock=clock) as source,
    ):
        writer.run("CREATE TABLE t (id INTEGER, seq BIGINT)")
        writer.run("INSERT INTO t SELECT i, i FROM range(1000) AS r(i)")
        writer.run("CHECKPOINT")
        kept = Kept(source, replace(plan_of(source, "t"), version="seq"))
        kept.read()
        writer.run("ALTER TABLE t ADD COLUMN note VARCHAR")
        kept.read()
        first = len(kept.broken)
        assert first == 1
        assert "altered" in kept.broken[0]
        kept.read()
        assert len(kept.broken) == first  # nothing was committed
        writer.run("DELETE FROM t WHERE id = 7")
        kept.read()
        assert len(kept.broken) == first  # it was told a moment ago,
        soon = kept.reader.learning
        assert soon  # and is read for it again soon
        clock.advance(2.0)
        kept.read()
        assert len(kept.broken) == first + 1
        assert not kept.reader.learning
        writer.run("CHECKPOINT")
        kept.read()
        writer.run("DELETE FROM t WHERE id = 8")
        told = len(kept.broken)
        kept.read()
        assert len(kept.broken) == told  # it is followed again
        assert "8" not in {row[0] for row in kept.rows}


def test_a_column_that_hides_the_row_ids_keeps_a_table_to_snapshots(tmp_path: Path) -> None:
    """An update says which rows it changed by their row ids. [F2]"""
    path, heard = tmp_path / "t.db", Heard()
    with Writer(path) as writer, open_source(path, events=heard, clock=FakeClock()) as source:
        writer.run("CREATE TABLE t (id INTEGER, seq BIGINT, RowId BIGINT)")
        writer.run("INSERT INTO t SELECT i, i, i + 1 FROM range(1000) AS r(i)")
        writer.run("CHECKPOINT")
        kept = Kept(source, plan_of(source, "t"))
        kept.read()
        writer.run("UPDATE t SET seq = 1000 WHERE id = 7")
        writer.run("INSERT INTO t VALUES (1000, 1001, 8)")
        kept.read()
        changed = {("7", "1000", "8"), ("1000", "1001", "8")}
        assert kept.rows == {(f"{i}", f"{i}", f"{i + 1}") for i in range(1000) if i != 7} | changed
    assert all("a column is named RowId" in each for each in kept.broken)
    assert kept.broken


def test_a_source_that_is_read_in_snapshots_alone_says_of_each_commit_that_changes_may_go_unseen(
    tmp_path: Path,
) -> None:
    """As on Windows, where the log cannot be followed, or where the self-test fails."""
    path, clock = tmp_path / "t.db", FakeClock()
    with Writer(path) as writer:
        writer.run("CREATE TABLE t (id INTEGER, seq BIGINT)")
        writer.run("INSERT INTO t SELECT i, i FROM range(1000) AS r(i)")
        with open_source(path, deletes=True, tailing=False, clock=clock) as source:
            kept = Kept(source, plan_of(source, "t"))
            kept.read()
            kept.unseen.clear()
            for row in range(3):
                clock.advance(2.0)
                writer.run(f"DELETE FROM t WHERE id = {row}")
                kept.read()
                assert len(kept.broken) == row + 1
