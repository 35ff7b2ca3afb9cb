"""After a stretch that the log did not show, either what is kept is equal or it is said that it may not be.

Whatever went on meanwhile, and whatever the numbers of rows say: an emptied table, as many other rows, or
keys changed in place leave counts as they were. [R3 issue 12]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.followed import ROWS, Followed
from tests.support.kept import written
from tests.support.writers import VERSIONS

KINDS = {
    "emptied": ("DELETE FROM t",),
    "truncated": ("TRUNCATE t",),
    "deleted": ("DELETE FROM t WHERE id % 7 = 0",),
    "keys changed in place": ("UPDATE t SET id = id + 100000 WHERE id < 6",),
    "replaced by as many": (
        "DELETE FROM t",
        f"INSERT INTO t SELECT i + 5000, i, 'other' FROM range({ROWS}) r(i)",
    ),
    "deleted, and as many inserted": (
        "DELETE FROM t WHERE id < 10",
        "INSERT INTO t SELECT i + 5000, i + 5000, 'new' FROM range(10) r(i)",
    ),
    "made anew": (
        "CREATE OR REPLACE TABLE t (id INTEGER, seq BIGINT, s VARCHAR)",
        f"INSERT INTO t SELECT i + 5, i, 'z' FROM range({ROWS}) r(i)",
    ),
    "renamed away and back": (
        "ALTER TABLE t RENAME TO u",
        "DELETE FROM u WHERE id = 3",
        "ALTER TABLE u RENAME TO t",
    ),
    "all of it": (
        "DELETE FROM t WHERE id % 5 = 1",
        "UPDATE t SET id = id + 200000 WHERE id % 5 = 2",
        "UPDATE t SET s = 'u' WHERE id % 5 = 3",
        "INSERT INTO t SELECT i + 9000, 5, 'late' FROM range(200) r(i)",
    ),
}


@pytest.fixture(params=VERSIONS[-2:])
def followed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Followed]:
    with ExitStack() as stack:
        made = Followed(tmp_path / "t.db", stack)
        made.write(request.param)
        made.create()
        made.follow()
        yield made


def said_or_equal(followed: Followed) -> bool:
    return bool(followed.kept.broken) or followed.kept.rows == written(followed.writer, "t")


@pytest.mark.parametrize("kind", KINDS)
def test_what_happened_while_the_reader_was_stopped_is_there_or_said(followed: Followed, kind: str) -> None:
    followed.run(*KINDS[kind], "CHECKPOINT")
    followed.kept.reopen(followed.source)
    followed.kept.read()
    assert said_or_equal(followed)


@pytest.mark.parametrize("kind", KINDS)
def test_what_happened_while_the_reader_was_suspended_is_there_or_said(followed: Followed, kind: str) -> None:
    followed.run(*KINDS[kind], "CHECKPOINT", "INSERT INTO t VALUES (-1, 70000, 'last')", "CHECKPOINT")
    followed.kept.read()
    assert said_or_equal(followed)


@pytest.mark.parametrize("kind", KINDS)
def test_what_happens_while_the_log_is_not_followed_is_there_or_said(followed: Followed, kind: str) -> None:
    followed.run("ALTER TABLE t ALTER s SET DEFAULT 'x'", "ALTER TABLE t ADD COLUMN k INTEGER")
    followed.kept.read()
    followed.kept.unseen.clear()
    followed.run("ALTER TABLE t DROP COLUMN k", *KINDS[kind])
    followed.kept.read()
    assert followed.kept.broken or followed.kept.reader.learning  # said a moment ago, and read again soon


@pytest.mark.parametrize("turn", ["followed", "followed over a checkpoint", "stopped in one log"])
def test_what_the_log_showed_is_equal_and_nothing_is_said(followed: Followed, turn: str) -> None:
    """Nor is there anything to compare after an ordinary restart, and a checkpoint of inserts is proven."""
    followed.run("DELETE FROM t WHERE id % 7 = 0", "UPDATE t SET id = id + 100000 WHERE id < 6")
    assert followed.equal()
    if turn == "stopped in one log":
        followed.run("DELETE FROM t WHERE id % 11 = 0")
        followed.kept.reopen(followed.source)
    elif turn == "followed over a checkpoint":
        followed.run("CHECKPOINT")
        followed.kept.read()
        followed.kept.unseen.clear()
        followed.run("INSERT INTO t SELECT i + 5000, i + 5000, 'n' FROM range(100) r(i)")
        followed.kept.read()
        followed.run("DELETE FROM t WHERE id = 500")
        followed.kept.read()
        followed.run("CHECKPOINT")
        followed.kept.read()
        followed.run("DELETE FROM t WHERE id = 501")
    assert followed.equal()
    assert followed.kept.broken == []


def test_an_update_that_skips_the_log_among_rows_that_the_log_changed_is_doubted(tmp_path: Path) -> None:
    """Blocks and counts are as the log explains them. DuckDB 1.4 lets every commit that checkpoints do so."""
    with ExitStack() as stack:
        followed = Followed(tmp_path / "t.db", stack)
        followed.write("1.4.4")
        followed.create()
        followed.follow()
        followed.run("UPDATE t SET s = 'in the log' WHERE id = 1")
        assert followed.equal()
        followed.run("SET checkpoint_threshold = '1KB'", "UPDATE t SET s = 'not in it' WHERE id = 2")
        assert not followed.equal()
        assert [each.urgent for each in followed.kept.unseen] == [False]


def test_an_update_that_skips_the_log_after_inserts_is_found(tmp_path: Path) -> None:
    with ExitStack() as stack:
        followed = Followed(tmp_path / "t.db", stack)
        followed.write("1.4.4")
        followed.create()
        followed.follow()
        followed.run("CHECKPOINT", "INSERT INTO t VALUES (5000, 5000, 'in the log')")
        assert followed.equal()
        followed.run("SET checkpoint_threshold = '1KB'", "UPDATE t SET s = 'not in it' WHERE id = 2")
        assert followed.equal() or followed.kept.broken
