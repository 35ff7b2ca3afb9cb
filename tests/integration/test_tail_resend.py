"""Updates that came while the log was not followed are handed out, and little besides. [R3 issue 3]

Checkpoints pass while the reader is away, and the freed blocks of the file are used again. Afterwards what a
target would hold is what the writer has, by value, and the rows handed out again are counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cdc.change import BatchLimits
from cdc.source import DuckDbSource, open_source
from cdc.source.table import digests
from tests.support.kept import Heard, Kept, written
from tests.support.sources import plan_of
from tests.support.writers import VERSIONS, Writer

ROWS = 130_000
"""Two row groups."""
WIDTH = 1_024
FEW = BatchLimits(rows=200, bytes=32 << 20)


class Away:
    """A writer with a table, and a reader of it that comes and goes."""

    def __init__(self, path: Path, version: str, stack: ExitStack, rows: int = ROWS) -> None:
        self.heard = Heard()
        self.writer = stack.enter_context(Writer(path, version))
        self.run(
            f"CREATE TABLE t AS SELECT i AS id, i AS seq, hash(i) AS v, 'x' || i AS s"
            f" FROM range({rows}) AS r(i)",
            "CHECKPOINT",
        )
        self.source: DuckDbSource = stack.enter_context(open_source(path, events=self.heard))
        self.kept = Kept(self.source, plan_of(self.source, "t"))
        self.kept.keeping = rows <= ROWS
        self.kept.read()
        self.kept.learn()
        self.kept.keeping = True

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.writer.run(statement)

    def equal(self) -> bool:
        return self.kept.rows == written(self.writer, "t")


@pytest.fixture(autouse=True)
def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges and pieces are small, and what may be learnt is learnt without pauses."""
    monkeypatch.setattr("cdc.source.table.digests.WIDTH", WIDTH)
    monkeypatch.setattr("cdc.source.table.resend.ROWS", 4 * WIDTH)
    monkeypatch.setattr("cdc.source.table.resend._REST", 0.0)
    monkeypatch.setattr("cdc.source.table.resend._STORE_SECONDS", 0.0)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=VERSIONS)
def away(request: pytest.FixtureRequest, tmp_path: Path, stack: ExitStack) -> Away:
    return Away(tmp_path / "t.db", request.param, stack)


@pytest.fixture
def current(tmp_path: Path, stack: ExitStack) -> Away:
    return Away(tmp_path / "t.db", VERSIONS[-1], stack)


@pytest.fixture
def small(tmp_path: Path, stack: ExitStack) -> Away:
    """20 ranges of one row group, taken four at a time."""
    return Away(tmp_path / "t.db", VERSIONS[-1], stack, rows=20 * WIDTH)


@pytest.mark.parametrize(
    ("checkpoints", "restart"),
    [(2, False), (1, True), (2, True), (5, True)],
    ids=["2 between reads", "1 and a restart", "2 and a restart", "5 and a restart"],
)
def test_updates_during_checkpoints_that_were_not_followed_are_handed_out_and_little_besides(
    away: Away, checkpoints: int, restart: bool
) -> None:
    for number in range(checkpoints):
        away.run(
            f"UPDATE t SET s = 'u{number}' WHERE id IN (7, 125000 + {number % 2})",
            f"INSERT INTO t VALUES ({ROWS + number}, {ROWS + number}, 0, 'new')",
            "CHECKPOINT",
        )
    away.run("UPDATE t SET s = 'in the log' WHERE id = 70000")
    if restart:
        away.kept.reopen(away.source)
    assert away.kept.read() <= 4 * WIDTH + checkpoints
    assert away.equal()
    assert away.kept.broken == []


def test_of_a_table_of_more_than_a_million_rows_a_restart_hands_out_only_what_changed(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("cdc.source.table.resend._REST", 0.0)
    away = Away(tmp_path / "t.db", VERSIONS[-1], stack, rows=1_200_000)
    for number in range(5):
        away.run(f"UPDATE t SET v = {number + 1} WHERE id = {number} * 100000", "CHECKPOINT")
    away.kept.reopen(away.source)
    began = time.monotonic()
    again = away.kept.read()
    print(f"{again} of 1200000 rows handed out again in {time.monotonic() - began:.2f} s")
    assert again <= 6 * digests.WIDTH
    kept = {row[0]: row for row in away.kept.rows}
    changed = away.writer.run("SELECT * FROM t WHERE id IN (0, 100000, 200000, 300000, 400000)")
    assert [kept[row[0]] for row in changed] == [tuple(row) for row in changed]


def test_updates_are_found_where_gaps_in_the_row_ids_hide_the_row_groups(current: Away) -> None:
    """DuckDB 2.0 drops a row group that is deleted as a whole, and keeps the row ids of the rest."""
    current.run("DELETE FROM t WHERE id < 122880", "CHECKPOINT")
    current.kept = Kept(current.source, plan_of(current.source, "t"))
    current.kept.read()
    current.kept.learn()
    current.run("UPDATE t SET s = 'u' WHERE id = 124000", "CHECKPOINT")
    current.run("INSERT INTO t VALUES (130000, 130000, 0, 'new')", "CHECKPOINT")
    current.kept.reopen(current.source)
    assert current.kept.read() <= 2 * WIDTH
    assert current.equal()


def test_a_restart_in_the_same_log_hands_out_nothing_again(current: Away) -> None:
    current.run("UPDATE t SET s = 'seen' WHERE id = 7")
    assert current.kept.read() == 1
    current.kept.reopen(current.source)
    assert current.kept.read() <= 2  # the row at the mark, and the last commit's
    assert current.equal()


def test_a_restart_after_a_checkpoint_that_changed_nothing_hands_out_the_end_of_the_table(
    current: Away,
) -> None:
    current.run("CREATE TABLE other (i INTEGER)", "CHECKPOINT", "INSERT INTO other VALUES (1)", "CHECKPOINT")
    current.kept.reopen(current.source)
    assert current.kept.read() <= WIDTH
    assert current.equal()


def test_what_is_handed_out_whole_goes_on_over_checkpoints(current: Away) -> None:
    """Nothing is stored, so nothing is known, and a checkpoint comes between any two of its pieces."""
    current.run("UPDATE t SET s = 'u' WHERE id IN (1, 129000)", "CHECKPOINT", "CHECKPOINT")
    current.kept.digests = None
    current.kept.reopen(current.source)
    pieces = 0
    for batch in current.kept.reader.read(current.kept.mark, BatchLimits(rows=2 * WIDTH, bytes=32 << 20)):
        current.kept.store(current.kept.reader.digests_before_send())
        current.kept.take(batch)
        pieces += 1
        if pieces % 10 == 0:
            current.run(f"UPDATE t SET s = 'p{pieces}' WHERE id = {pieces}", "CHECKPOINT")
    assert pieces > 30
    assert current.equal() or (current.kept.read() and current.equal())
    assert current.kept.handed_out < 4 * ROWS


def test_a_row_that_changed_and_came_back_unseen_is_handed_out(current: Away) -> None:
    """Its range is in the file as it was known to be, and the target has what came between."""
    [[before]] = current.writer.run("SELECT s FROM t WHERE id = 7")
    current.run("UPDATE t SET s = 'came' WHERE id = 7")
    assert current.kept.crash(current.source, sent=1, committed=0) == 1
    assert ("7", "7", *_rest(current, 7)) in current.kept.rows
    current.run(f"UPDATE t SET s = '{before}' WHERE id = 7", "CHECKPOINT", "CHECKPOINT")
    current.kept.reopen(current.source)
    current.kept.read()
    assert current.equal()


def _rest(away: Away, id_: int) -> list[str | None]:
    [rest] = away.writer.run(f"SELECT v, s FROM t WHERE id = {id_}")
    return rest


@pytest.mark.parametrize("sent", range(0, 24, 3))
@pytest.mark.parametrize("committed", [0, 1])
def test_a_crash_while_rows_are_handed_out_again_leaves_none_out(
    small: Away, sent: int, committed: int
) -> None:
    """After it the changed rows come back to what they were, so that only digests that were given up in time
    show them."""
    before = small.writer.run("SELECT id, s FROM t WHERE id IN (7, 9000, 19000)")
    small.run(
        "UPDATE t SET s = 'a' WHERE id IN (7, 9000)",
        "CHECKPOINT",
        "UPDATE t SET s = 'a' WHERE id = 19000",
        "CHECKPOINT",
        f"INSERT INTO t VALUES ({20 * WIDTH}, {20 * WIDTH}, 0, 'new')",
    )
    small.kept.reopen(small.source)
    small.kept.crash(small.source, sent, max(0, sent - 1 + committed), FEW)
    for id_, s in before:
        small.run(f"UPDATE t SET s = '{s}' WHERE id = {id_}", "CHECKPOINT")
    small.kept.reopen(small.source)
    small.kept.read()
    assert small.equal()


def test_values_that_change_places_are_seen_though_the_blocks_look_the_same(
    tmp_path: Path, stack: ExitStack
) -> None:
    """Why digests are of values: block pointers and DuckDB's checksums are what they were."""
    away = Away(tmp_path / "t.db", VERSIONS[-1], stack, rows=0)
    away.run(
        "PRAGMA force_compression = 'uncompressed'",
        "INSERT INTO t SELECT i, i, hash(i), 'x' FROM range(5000) AS r(i)",
        "CHECKPOINT",
        "UPDATE t SET v = v + 1 WHERE id < 2",
        "CHECKPOINT",
    )
    away.kept.read()
    away.kept.learn()
    before = _blocks(away)
    seen = False
    for _ in range(6):
        away.run(
            "UPDATE t SET v = (SELECT sum(v) FROM t WHERE id < 2) - v WHERE id < 2",
            "CHECKPOINT",
        )
        seen = seen or _blocks(away) == before
    away.run("UPDATE t SET v = (SELECT sum(v) FROM t WHERE id < 2) - v WHERE id < 2", "CHECKPOINT")
    assert seen
    away.kept.reopen(away.source)
    away.kept.read()
    assert away.equal()


def _blocks(away: Away) -> list[tuple[str | None, ...]]:
    """Where each segment of `v` lies, and the checksum of its block."""
    found: list[tuple[str | None, ...]] = []
    with away.writer.path.open("rb") as file:
        for block, offset in away.writer.run(
            "SELECT block_id, block_offset FROM pragma_storage_info('t')"
            " WHERE column_name = 'v' AND block_id >= 0"
        ):
            file.seek(3 * 4096 + int(block or 0) * 262_144)
            found.append((block, offset, file.read(8).hex()))
    return found
