"""What stands in the rows that the log touched, where the file ends, and which commits came. [F2 R3]

The files are closed ones with their logs, so that a log can be cut off and grown at will.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pytest

from cdc.change import Column, TableId
from cdc.clock import SystemClock
from cdc.source.file.pin import Pinner
from cdc.source.file.session import Session, SessionLimits
from cdc.source.format import frames
from cdc.source.format.frames import NotUnderstood
from cdc.source.tail import follow
from cdc.source.tail import inserted as inserted_module
from cdc.source.tail import touched as touched_module
from cdc.source.tail.checkpoint_base import Bases, CheckpointBase
from cdc.source.tail.follow import LogFollower, NotFollowable
from cdc.source.tail.touched import TouchedRows
from cdc.source.tail.twin import Twin

TABLE = TableId("main", "t")
COLUMNS = (Column("id", "INTEGER"), Column("s", "VARCHAR"))
Rows = set[tuple[object, ...]]


def write(path: Path, *statements: str) -> None:
    """Run them, and leave the log as it is."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Ten rows in the file, and an empty log."""
    made = tmp_path / "t.db"
    write(made, "CREATE TABLE t AS SELECT i::INTEGER AS id, 'x' AS s FROM range(10) AS r(i)", "CHECKPOINT")
    return made


@dataclass
class Followed:
    """A touched_rows of the table over its file, and the rounds to apply to it."""

    path: Path
    cursor: duckdb.DuckDBPyConnection
    twin: Twin
    touched_rows: TouchedRows
    rounds: list[list[bytes]]

    def apply(self, changes: list[bytes]) -> tuple[Rows, Rows]:
        """The rows changed and removed by a round."""
        inserts = [frame for frame in changes if frames.kind(frame) == frames.INSERT]
        if inserts and not self.touched_rows.numbered:
            self.touched_rows.number_from(self.touched_rows.base.stored_rows)
        with self.twin.attached(changes) as decoded:
            found = self.touched_rows.apply(decoded, inserts)
            changed, removed = (
                set(self.cursor.execute(f"FROM {rows}").fetchall()) if rows else set()
                for rows in (found.changed, found.removed)
            )
        return changed, removed


class Opener:
    """Writes commits to the log, and opens the file with what each of them did."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self._stack = stack

    def __call__(self, *statements: str) -> Followed:
        write(self.path, *statements)
        pinner = Pinner(self.path, SystemClock())
        session = Session(SessionLimits())
        self._stack.callback(session.close)
        follower = LogFollower(pinner)
        commits = follower.start(pinner.position())
        follower.close()
        rounds = [
            [frame]
            for frame in commits.frames
            if frames.kind(frame) in (frames.INSERT, frames.DELETE, frames.UPDATE)
        ]
        cursor = session.cursor()
        twin = Twin(cursor, COLUMNS)
        base = CheckpointBase(Bases(pinner, session), cursor, TABLE)
        made = TouchedRows(cursor, twin, COLUMNS, ["id"], base)
        self._stack.callback(cursor.close)
        self._stack.callback(base.close)
        return Followed(self.path, cursor, twin, made, rounds)


@pytest.fixture
def opened(path: Path) -> Iterator[Opener]:
    with ExitStack() as stack:
        yield Opener(path, stack)


def test_rows_come_from_the_file_from_earlier_inserts_and_from_the_round_itself(opened: Opener) -> None:
    followed = opened(
        "INSERT INTO t VALUES (10, 'a'), (11, 'b')",
        "INSERT INTO t VALUES (12, 'c')",
        "INSERT INTO t VALUES (13, 'd')",
        "UPDATE t SET s = 'new' WHERE id IN (3, 11, 13)",
    )
    one, two, three, *updates = (changes[0] for changes in followed.rounds)
    assert followed.apply([one, two]) == ({(10, "a"), (11, "b"), (12, "c")}, set())
    assert followed.apply([three, *updates]) == ({(3, "new"), (11, "new"), (13, "new")}, set())


@pytest.mark.parametrize("literals", [2, 2_000])
def test_scattered_rows_of_many_inserts_are_found(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, literals: int
) -> None:
    monkeypatch.setattr(touched_module, "LITERALS", literals)
    followed = opened(
        *(f"INSERT INTO t VALUES ({10 * n}, 'a'), ({10 * n + 1}, 'b')" for n in range(1, 9)),
        "UPDATE t SET s = s || 'u' WHERE id IN (1, 5, 8, 21, 30, 31, 60, 81)",
    )
    for changes in followed.rounds[:8]:
        followed.apply(changes)
    changed, _ = followed.apply([frame for changes in followed.rounds[8:] for frame in changes])
    expected = {1: "xu", 5: "xu", 8: "xu", 21: "bu", 30: "au", 31: "bu", 60: "au", 81: "bu"}
    assert changed == set(expected.items())


def test_a_row_deleted_comes_out_as_it_stood_and_is_counted(opened: Opener) -> None:
    followed = opened("UPDATE t SET s = 'late' WHERE id = 4", "DELETE FROM t WHERE id IN (4, 6)")
    assert followed.apply([frame for changes in followed.rounds for frame in changes]) == (
        set(),
        {(4, "late"), (6, "x")},
    )
    logged = followed.touched_rows.logged()
    assert (logged.inserted, logged.deleted, logged.touched.tolist()) == (0, 2, [4, 6])


def test_a_key_changed_is_removed_under_its_old_value(opened: Opener) -> None:
    followed = opened("UPDATE t SET id = 50 WHERE id = 4")
    assert followed.apply(followed.rounds[0]) == ({(50, "x")}, {(4, "x")})


def test_inserts_go_on_when_the_oldest_are_kept_no_more_and_an_update_of_those_does_not(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inserted_module, "_MOST_KEPT_BYTES", 1_000)
    followed = opened(
        *(f"INSERT INTO t VALUES ({n}, 'a')" for n in range(10, 40)),
        "UPDATE t SET s = 'u' WHERE id = 39",
        "UPDATE t SET s = 'u' WHERE id = 10",
    )
    for number, changes in enumerate(followed.rounds[:30], 10):
        assert followed.apply(changes) == ({(number, "a")}, set())
    assert followed.apply(followed.rounds[30]) == ({(39, "u")}, set())
    with pytest.raises(NotUnderstood, match="too far back in the log"):
        followed.apply(followed.rounds[31])


def test_a_row_that_is_nowhere_is_not_understood(opened: Opener) -> None:
    followed = opened("INSERT INTO t VALUES (10, 'a')", "UPDATE t SET s = 'u' WHERE id = 10")
    followed.touched_rows.number_from(100)
    followed.apply(followed.rounds[0])
    with pytest.raises(NotUnderstood, match="1 rows are changed that are in neither the file nor the log"):
        followed.apply(followed.rounds[1])


@pytest.mark.parametrize(
    ("statements", "first"),
    [
        ((), 10),
        (("DELETE FROM t WHERE id = 9", "CHECKPOINT"), 10),
        (("DELETE FROM t WHERE id < 3", "CHECKPOINT"), 10),
        (("DROP TABLE t", "CHECKPOINT", "CREATE TABLE t (id INTEGER, s VARCHAR)"), 0),
    ],
)
def test_the_row_id_after_a_checkpoint_is_the_one_that_duckdb_gives(
    path: Path, statements: tuple[str, ...], first: int
) -> None:
    write(path, *statements, "INSERT INTO t VALUES (77, 'a')")
    with duckdb.connect(str(path), read_only=True) as connection:
        [(given,)] = connection.execute("SELECT rowid FROM t WHERE id = 77").fetchall()
    pinner, session = Pinner(path, SystemClock()), Session(SessionLimits())
    follower = LogFollower(pinner)
    found = follower.start(pinner.position()).frames
    use = next(frame for frame in found if frames.kind(frame) == frames.USE_TABLE)
    insert = next(frame for frame in found if frames.kind(frame) == frames.INSERT)
    cursor = session.cursor()
    base = CheckpointBase(Bases(pinner, session), cursor, TABLE)
    assert base.exists is (first > 0)
    assert base.next_row_id(follower.header, use, insert) == given == first
    base.close()
    cursor.close()
    session.close()
    follower.close()


def test_a_commit_is_handed_out_once_and_when_it_is_whole(path: Path) -> None:
    log = Path(f"{path}.wal")
    write(path, "INSERT INTO t VALUES (10, 'a')", "INSERT INTO t VALUES (11, 'b')")
    whole = log.read_bytes()
    marker = frames.make_frame(b"d\0d\xff\xff")
    one = whole.index(marker) + len(marker)
    log.write_bytes(whole[:one])
    pinner = Pinner(path, SystemClock())
    follower = LogFollower(pinner)
    first = follower.start(pinner.position())
    assert sum(frames.kind(frame) == frames.INSERT for frame in first.frames) == 1
    for size in (one + 1, (one + len(whole)) // 2, len(whole) - 1):
        log.write_bytes(whole[:size])
        assert follower.look() == []
    log.write_bytes(whole)
    [second] = follower.look()
    assert second.position == follower.position == replace(first.position, offset=len(whole))
    assert not second.checkpointed
    assert follower.look() == []
    follower.close()


def test_too_much_log_at_once_is_not_followed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, "INSERT INTO t VALUES (10, 'a')")
    monkeypatch.setattr(follow, "MAX_ROUND_BYTES", 10)
    pinner = Pinner(path, SystemClock())
    with pytest.raises(NotFollowable, match="MB of log came at once"):
        LogFollower(pinner).start(pinner.position())


@pytest.mark.parametrize(("checkpoints", "missing"), [(1, False), (2, True)])
def test_across_checkpoints_it_is_said_whether_commits_may_be_missing(
    path: Path, checkpoints: int, missing: bool
) -> None:
    pinner = Pinner(path, SystemClock())
    write(path, "INSERT INTO t VALUES (10, 'a')")
    follower = LogFollower(pinner)
    before = follower.start(pinner.position()).position
    for number in range(checkpoints):
        write(path, "CHECKPOINT", f"INSERT INTO t VALUES ({11 + number}, 'b')")
    *_, found = follower.look()
    assert found.checkpointed
    assert found.position.iteration > before.iteration
    assert found.missing is missing
    follower.close()


@pytest.mark.parametrize("leaves", [1, 3, 64])
def test_updates_are_taken_in_whatever_number_of_leaves_a_statement_has(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, leaves: int
) -> None:
    monkeypatch.setattr(touched_module, "_LEAVES", leaves)
    monkeypatch.setattr(touched_module, "_LEAVES_OF_SEVERAL", leaves)
    monkeypatch.setattr(touched_module, "_JOINED", 0)
    followed = opened(
        "UPDATE t SET id = id + 20, s = NULLIF(s || id, 'x4') WHERE id IN (2, 4)",
        "UPDATE t SET s = 'a' WHERE id = 24",
        "UPDATE t SET s = NULL, id = 50 WHERE id = 24",
    )
    both, one, last = ([f for c in followed.rounds[a:b] for f in c] for a, b in ((0, 4), (4, 6), (6, 10)))
    assert followed.apply(both) == ({(22, "x2"), (24, None)}, {(2, "x"), (4, "x")})
    assert followed.apply([*one, *last]) == ({(50, None)}, {(24, None)})
