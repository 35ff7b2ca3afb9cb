"""Random transactions of a live writer, against what a reader keeps: equal whenever the writer rests.

The log is decoded by DuckDB (a STRUCT is among the columns), directly (none is), or now so and now so.

CDC_MODEL_EXAMPLES asks for more examples than the 200 of every run (of all but the first a quarter as many),
CDC_MODEL_SEED for random ones, CDC_MODEL_WRITER for a writer of another version of DuckDB, and
CDC_MODEL_SHRINK for the least example that fails.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from cdc.source import DuckDbSource, open_source
from tests.support.kept import Heard, Kept, written
from tests.support.sources import plan_of
from tests.support.writers import CURRENT, Writer

EXAMPLES = int(os.environ.get("CDC_MODEL_EXAMPLES", "200"))
WRITER = os.environ.get("CDC_MODEL_WRITER", CURRENT)
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=14,
    derandomize="CDC_MODEL_SEED" not in os.environ,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink) if "CDC_MODEL_SHRINK" in os.environ else (Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
COLUMNS = ("id", "seq", "a", "b", "s")
NEW_S = "s = something else"
SINKS = "seq = -seq"
STRUCT, PLAIN = "STRUCT(x INTEGER, y VARCHAR)", "DECIMAL(12,2)"
NEW_VALUES = (
    "a = NULL",
    "a = coalesce(a, 0) + 1",
    "b = 'u' || id, a = -1",
    "b = NULL",
    NEW_S,
    "s = NULL",
    SINKS,
    "id = id + 100000",
)


class World:
    """One writer and one source for all examples, which have a table each."""

    def __init__(self, directory: Path, *, tailing: bool, checked: float | None) -> None:
        """`checked` percent of the rounds are decoded by DuckDB too; None: by DuckDB alone, of a table that
        it must decode."""
        self.plain = checked is not None
        self._stack = ExitStack()
        self.path = directory / "model.db"
        self.tailing = tailing
        self.heard = Heard()
        self.tables = itertools.count()
        self.writer = Writer(self.path, WRITER)
        self.source: DuckDbSource = self._stack.enter_context(
            open_source(
                self.path, tailing=tailing, deletes=True, events=self.heard, decode_check_percent=checked
            )
        )

    def restart(self, *, killed: bool) -> None:
        self.writer.kill() if killed else self.writer.close()
        self.writer = Writer(self.path, WRITER)

    def close(self) -> None:
        self._stack.close()
        self.writer.close()


class Transactions(RuleBasedStateMachine):
    """One table, its writer's transactions, and what is kept of it."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.table = f"t{next(world.tables)}"
        self.ids = itertools.count(1)
        self.last = 0
        self.open = False
        self.altered = 0
        self.changed = False
        self.sunk: set[str | None] = set()
        """Rows that may have fallen behind the mark before they were read."""
        self.run(
            f"CREATE TABLE {self.table}"
            f" (id INTEGER, seq BIGINT, a INTEGER, b VARCHAR, s {PLAIN if world.plain else STRUCT})"
        )
        world.heard.lost.clear()
        self.kept = self.new_kept()

    def new_kept(self) -> Kept:
        return Kept(self.world.source, plan_of(self.world.source, self.table, columns=COLUMNS))

    def run(self, sql: str) -> None:
        self.world.writer.run(sql)

    @rule(rows=st.sampled_from((1, 1, 2, 3, 5, 8, 2100)))
    def insert(self, rows: int) -> None:
        first, self.last = self.last + 1, self.last + rows
        self.run(
            f"INSERT INTO {self.table} (id, seq, a, b, s) SELECT i, i, nullif(i % 3, 0), 'b' || i,"
            f" CASE WHEN i % 2 = 0 THEN {self.value_of_s('i')} END"
            f" FROM range({first}, {self.last + 1}) AS r(i)"
        )

    def value_of_s(self, number: str) -> str:
        return f"{number} / 4" if self.world.plain else f"{{'x': {number}, 'y': 'y'}}"

    @rule(new=st.sampled_from(NEW_VALUES), every=st.integers(1, 5), rest=st.integers(0, 4))
    def update(self, new: str, every: int, rest: int) -> None:
        self.changed = True
        if new == SINKS:
            self.sunk |= {str(row) for row in range(1, self.last + 1)} - {row[0] for row in self.kept.rows}
        if new == NEW_S:
            new = f"s = {self.value_of_s('id')}"
        self.run(f"UPDATE {self.table} SET {new} WHERE id % {every} = {rest}")

    @rule(every=st.integers(2, 9), rest=st.integers(0, 8))
    def delete(self, every: int, rest: int) -> None:
        self.changed = True
        self.run(f"DELETE FROM {self.table} WHERE id % {every} = {rest}")

    @rule()
    def begin_or_commit(self) -> None:
        self.run("COMMIT" if self.open else "BEGIN")
        self.open = not self.open

    @precondition(lambda self: self.open)
    @rule()
    def roll_back(self) -> None:
        self.run("ROLLBACK")
        self.open = False

    @precondition(lambda self: not self.open)
    @rule()
    def checkpoint(self) -> None:
        self.run("CHECKPOINT")

    @precondition(lambda self: not self.open and self.altered < 2)
    @rule()
    def add_a_column(self) -> None:
        self.altered += 1
        self.run(f"ALTER TABLE {self.table} ADD COLUMN more_{self.altered} INTEGER")

    @rule(chance=st.integers(0, 9), killed=st.booleans())
    def end_the_writer(self, chance: int, killed: bool) -> None:
        if chance == 0:
            self.world.restart(killed=killed)
            self.open = False

    @rule()
    def restart_the_reader(self) -> None:
        self.kept.reopen(self.world.source)

    @rule()
    def read(self) -> None:
        self.kept.read()

    @precondition(lambda self: not self.open)
    @rule()
    def rest(self) -> None:
        self.compare()

    def teardown(self) -> None:
        if self.open:
            self.run("COMMIT")
        self.compare()
        self.kept.reader.close()
        self.run(f"DROP TABLE {self.table}")

    def compare(self) -> None:
        self.kept.read()
        if self.world.tailing:
            self.compare_all()
        elif not self.changed:
            assert self.kept.rows == written(self.world.writer, self.table, COLUMNS)
        else:
            self.compare_what_snapshots_promise()

    def compare_all(self) -> None:
        heard = self.world.heard
        if heard.lost:
            self.run("CHECKPOINT")  # which shows what was not followed
            self.kept.read()
        if self.kept.broken:  # it said so: this is for `cdc verify --repair`
            assert all("delet" in reason for reason in self.kept.broken), self.kept.broken
            self.kept.reader.close()
            self.kept = self.new_kept()
            self.kept.read()
        heard.lost.clear()
        self.kept.unseen.clear()
        assert heard.mismatches == []
        assert heard.gaps == []  # no commit is so large that it skips the log
        assert self.kept.rows == written(self.world.writer, self.table, COLUMNS)

    def compare_what_snapshots_promise(self) -> None:
        """A row is there, in one of its states: later ones are seen within the overlap alone."""
        kept = {row[0] for row in self.kept.rows}
        inserted = {
            row[0] for row in written(self.world.writer, self.table, ("id",)) if int(row[0] or 0) <= 100_000
        }
        assert kept >= inserted - self.sunk


@pytest.fixture(
    params=[(True, None), (True, 0.0), (True, 40.0), (False, None)],
    ids=["by DuckDB", "directly", "mixed", "snapshots"],
)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    tailing, checked = request.param
    made = World(tmp_path, tailing=tailing, checked=checked)
    yield made
    made.close()


@pytest.mark.timeout(3600)
def test_what_is_kept_equals_the_source_whenever_its_writer_rests(world: World) -> None:
    """[F2 F5 R3]"""

    class OfThisWorld(Transactions):
        def __init__(self) -> None:
            super().__init__(world)

    examples = EXAMPLES if world.tailing and not world.plain else EXAMPLES // 4
    run_state_machine_as_test(OfThisWorld, settings=settings(SETTINGS, max_examples=examples))
