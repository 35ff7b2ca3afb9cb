"""The DuckDB in memory that reads the source fails for good: it is replaced, and every table goes on. [R3 R12
issue 12 cases 2, 23]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import duckdb
import pytest

from cdc.change import Batch, BatchLimits
from cdc.errors import SnapshotSuperseded, SourceError
from cdc.source import DuckDbSource, open_source
from cdc.source.file.session import MOST_FAILURES, KeptCursor, Session, SessionLimits
from cdc.source.tail.twin import LeafPath, Twin
from tests.support.duckdb_failing import end
from tests.support.followed import ROWS, Followed
from tests.support.kept import Heard, Kept, written
from tests.support.sources import plan_of
from tests.support.waiting import wait_until
from tests.support.writers import VERSIONS, Writer

FEW = BatchLimits(rows=100, bytes=32 << 20)
TABLES = ("t", "u", "w")


class Several:
    """A writer with several tables alike, and a reader of each."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.heard = Heard()
        self.writer = stack.enter_context(Writer(path))
        for table in TABLES:
            self.writer.run(f"CREATE TABLE {table} (id INTEGER, seq BIGINT, s VARCHAR)")
            self.writer.run(f"INSERT INTO {table} SELECT i, i, 'x' FROM range({ROWS}) AS r(i)")
        self.writer.run("CHECKPOINT")
        self.source: DuckDbSource = stack.enter_context(open_source(path, deletes=True, events=self.heard))
        self.kept = {table: Kept(self.source, plan_of(self.source, table)) for table in TABLES}
        self.read()

    def read(self) -> None:
        for kept in self.kept.values():
            kept.read(FEW)

    def change(self, number: int) -> None:
        for table in TABLES:
            self.writer.run(f"UPDATE {table} SET s = 'u{number}' WHERE id IN ({number}, {number + 100})")
            self.writer.run(f"DELETE FROM {table} WHERE id = {number + 200}")
            self.writer.run(f"INSERT INTO {table} VALUES ({ROWS + number}, {ROWS + number}, 'new')")

    def equal(self) -> bool:
        self.read()
        return all(kept.rows == written(self.writer, table) for table, kept in self.kept.items())


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Several]:
    with ExitStack() as stack:
        yield Several(tmp_path / "t.db", stack)


def test_when_the_one_that_decodes_the_log_fails_every_table_goes_on_in_the_log_where_it_was(
    several: Several,
) -> None:
    several.change(0)
    assert several.equal()
    for number in range(1, 4):
        several.change(10 * number)  # half of what is there when it fails, and half of it after
        end(several.source._tail_session.cursor())
        several.change(10 * number + 5)
        assert several.equal()
    assert [kept.unseen for kept in several.kept.values()] == [[], [], []]
    assert len(several.heard.failures) == 3
    assert len(several.heard.lost) == 3 * len(TABLES)
    assert all("has been invalidated" in reason for reason in several.heard.lost)


def test_when_the_one_that_takes_snapshots_fails_nobody_notices(several: Several) -> None:
    for number in range(3):
        several.change(10 * number)
        several.read()
        several.writer.run("CHECKPOINT")  # after which a snapshot is read
        end(several.source._session.cursor())
        assert several.equal()
        end(several.source._session.cursor())
        assert several.source.tables()
    assert several.heard.lost == []


def test_it_may_fail_between_two_batches(several: Several) -> None:
    kept = several.kept["t"]
    kept.reader.close()
    kept.reader = several.source.open(plan_of(several.source, "t", overlap="50"))
    kept.mark = None
    found: list[Batch] = []
    for batch in kept.reader.read(None, FEW):
        found.append(batch)
        kept.take(batch)
        if len(found) in (2, 5):
            end(several.source._session.cursor())
        if len(found) == 7:
            end(several.source._tail_session.cursor())
            several.change(1)
    several.change(2)
    assert several.equal()
    assert kept.broken == []


def test_a_read_that_ends_it_time_and_again_is_given_up_and_the_others_go_on(several: Several) -> None:
    """A table whose log does it is read in snapshots, and that is said."""
    ends: list[int] = []
    wrong = Twin._as_insert

    def end_it(twin: Twin, frame: bytes) -> tuple[str, LeafPath | None, bytes]:
        if b"poison" in frame:
            ends.append(1)
            end(several.source._tail_session.cursor())
            raise duckdb.InternalException("INTERNAL Error: poison")
        return wrong(twin, frame)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Twin, "_as_insert", end_it)
        several.writer.run(f"INSERT INTO t VALUES ({ROWS}, {ROWS}, 'poison')")
        for number in range(4):
            several.change(10 + number)
            several.read()
        for table in ("u", "w"):
            several.kept[table].read()
            assert several.kept[table].rows == written(several.writer, table)
            assert several.kept[table].unseen == []
        assert len(ends) == MOST_FAILURES
        unseen = several.kept["t"].unseen
        assert unseen
        assert "not seen before the writer's next checkpoint" in unseen[0].reason


def test_work_on_a_kept_cursor_is_done_again_until_it_is_itself_what_fails() -> None:
    failures: list[str] = []
    session = Session(SessionLimits(), failed=failures.append)
    kept = KeptCursor(session)
    end(session.cursor())
    assert kept.run(lambda cursor: cursor.execute("SELECT 7").fetchall()) == [(7,)]
    assert len(failures) == 1
    calls: list[int] = []

    def fail(cursor: duckdb.DuckDBPyConnection) -> None:
        calls.append(1)
        raise duckdb.InternalException("INTERNAL Error: of its own")

    with pytest.raises(SourceError, match="of its own") as caught:
        kept.run(fail)
    assert len(calls) == MOST_FAILURES
    assert not isinstance(caught.value, SnapshotSuperseded)
    assert kept.run(lambda cursor: cursor.execute("SELECT 8").fetchall()) == [(8,)]
    kept.close()
    session.close()


def test_what_is_asked_of_a_duckdb_that_was_replaced_is_superseded() -> None:
    session = Session(SessionLimits())
    cursor, generation = session.connect()
    end(cursor)
    session.restart(generation)
    with pytest.raises(SnapshotSuperseded, match="started afresh"):
        session.cursor(generation)
    cursor.close()
    session.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_checkpoints_that_overtake_reads_all_the_time_are_retries_that_nobody_notices(
    tmp_path: Path, version: str
) -> None:
    """[issue 12 case 23]"""
    with ExitStack() as stack:
        followed = Followed(tmp_path / "t.db", stack)
        writer = followed.write(version, {"checkpoint_threshold": "50KB"})
        writer.run("CREATE TABLE t (id BIGINT, v BIGINT)")
        followed.source = stack.enter_context(open_source(followed.path, deletes=True, events=followed.heard))
        plan = plan_of(followed.source, "t", watermark="id")
        readers = [Kept(followed.source, plan) for _ in range(2)]
        writer.load("t", rows=200, transfers=2, pause=0.02)
        heard = followed.heard

        def overtaken() -> bool:
            for kept in readers:
                kept.read(FEW)
                kept.reopen(followed.source, None)  # which attaches once more
            return heard.superseded + len(heard.lost) > 3

        wait_until(overtaken, "checkpoints to overtake reads")
        writer.pause()
        for kept in readers:
            wait_until(lambda kept=kept: _same(kept, writer), "both to be equal", 30.0)  # type: ignore[misc]


def _same(kept: Kept, writer: Writer) -> bool:
    kept.read()
    return kept.rows == written(writer, "t")
