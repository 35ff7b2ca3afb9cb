"""The state store of a replicator that is killed outright: whole, and never behind what it reported. [R3]"""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from cdc.change import Column, FailedRow, Mark, Position, TableId, TablePlan
from cdc.state import Lease, open_store
from cdc.stored import Decision
from cdc.watermark import bind

KILLS = 12
PLAN = TablePlan(TableId("main", "t"), "t", (Column("seq", "BIGINT"),), ("seq",), Column("seq", "BIGINT"))
REPLICATOR = """
import sys
from pathlib import Path
from cdc.change import Column, FailedRow, Mark, Position, TableId, TablePlan
from cdc.stored import Decision
from cdc.state import Lease, open_store
from cdc.watermark import bind

directory, table = Path(sys.argv[1]), TableId("main", "t")
plan = TablePlan(table, "t", (Column("seq", "BIGINT"),), ("seq",), Column("seq", "BIGINT"))
with Lease(directory, "source") as lease, open_store(directory) as store:
    marks = bind(store, "source", lease)
    marks.describe(plan)
    number = int((marks.load(table).mark or Mark("0", ())).watermark)
    while True:
        number += 1
        failed = tuple(FailedRow((f"{number}-{n}",), None, "bad", bytes(500), number) for n in range(20))
        mark = Mark(str(number), (str(number),))
        marks.commit(Decision(table, mark, 1, 10, Position(1, 1, number), f"v{number // 7}", failed))
        print(number, flush=True)
"""


def test_a_store_killed_at_any_point_is_whole_and_has_every_commit_it_reported(tmp_path: Path) -> None:
    """Each commit holds 1 row, 20 failed rows and a mark: after a kill they must tell the same story."""
    rng = random.Random(4)
    reported = 0
    for _ in range(KILLS):
        command = [sys.executable, "-c", REPLICATOR, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as replicator:
            assert replicator.stdout is not None
            for _ in range(rng.randint(1, 60)):
                reported = int(replicator.stdout.readline())
            replicator.kill()
            for line in replicator.stdout:  # committed and said between the last line read and the kill
                if line.endswith("\n"):
                    reported = int(line)
        with open_store(tmp_path) as store:  # checks the whole file
            (record,) = store.tables()
            assert record.mark is not None
            stored = int(record.mark.watermark)
            assert reported <= stored <= reported + 1
            assert (record.rows, record.bytes, record.batches) == (stored, 10 * stored, stored)
            assert record.failed_rows == 20 * stored
            assert record.position is not None
            assert record.position.offset == stored
            assert record.schema_version == f"v{stored // 7}"
            versions = [version for version, _ in store.schema_versions("source", TableId("main", "t"))]
            assert versions == [f"v{n}" for n in range(stored // 7 + 1)]


def test_a_replicator_that_ends_before_any_of_its_statements_leaves_a_whole_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From making the file to the first commit, the files are copied before each statement.

    The copies are what kill -9 would leave there. In each, the next opening must find all of the commit or
    nothing of it.
    """
    directory, copies = tmp_path / "state", tmp_path / "copies"
    taken = 0

    class Traced(sqlite3.Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.set_trace_callback(self.copy)

        def copy(self, statement: str) -> None:
            nonlocal taken
            taken += 1
            shutil.copytree(directory, copies / f"{taken:03}")

    connect = partial(sqlite3.connect, factory=Traced)
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", connect)
        with Lease(directory, "source") as lease, open_store(directory) as store:
            marks = bind(store, "source", lease)
            marks.describe(PLAN)
            assert marks.load(PLAN.table).rows == 0
            failed = tuple(FailedRow((str(n),), None, "bad", bytes(500), 1) for n in range(3))
            marks.commit(Decision(PLAN.table, Mark("1", ()), 1, 10, Position(1, 1, 1), "v1", failed))
    shutil.copytree(directory, copies / "done")
    states = []
    for copy in sorted(copies.iterdir()):
        with open_store(copy) as store:
            states.append([(record.rows, record.failed_rows, record.mark) for record in store.tables()])
            assert store.failed_count() == sum(failed_rows for _, failed_rows, _ in states[-1])
    assert taken > 20
    assert [state for state, _ in groupby(states)] == [[], [(0, 0, None)], [(1, 3, Mark("1", ()))]]
