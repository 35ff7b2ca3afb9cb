"""The state store of a replicator that is killed outright: whole, and never behind what it reported. [R3]"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from cdc.change import Mark, TableId
from cdc.watermark import open_store

KILLS = 12
REPLICATOR = """
import sys
from pathlib import Path
from cdc.change import Column, Decision, FailedRow, Mark, Position, TableId, TablePlan
from cdc.watermark import Lease, open_store

directory, table = Path(sys.argv[1]), TableId("main", "t")
plan = TablePlan(table, "t", (Column("seq", "BIGINT"),), ("seq",), Column("seq", "BIGINT"))
with Lease(directory, "source") as lease, open_store(directory) as store:
    marks = store.bind("source", lease)
    marks.describe(plan)
    number = int((marks.load(table).mark or Mark("0", ())).watermark)
    while True:
        number += 1
        failed = tuple(FailedRow((f"{number}-{n}",), None, "bad", bytes(500), number) for n in range(20))
        mark = Mark(str(number), (str(number),))
        marks.commit(Decision(table, mark, 1, 10, Position(1, number), f"v{number // 7}", failed))
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


DIES = """
import os, sqlite3, sys
from pathlib import Path

statements = 0

def count(statement):
    global statements
    statements += 1
    if statements == int(sys.argv[2]):
        os._exit(9)

class Connection(sqlite3.Connection):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.set_trace_callback(count)

connect = sqlite3.connect
sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Connection, **kwargs)

from cdc.change import Column, Decision, FailedRow, Mark, Position, TableId, TablePlan
from cdc.watermark import Lease, open_store

directory, table = Path(sys.argv[1]), TableId("main", "t")
plan = TablePlan(table, "t", (Column("seq", "BIGINT"),), ("seq",), Column("seq", "BIGINT"))
with Lease(directory, "source") as lease, open_store(directory) as store:
    marks = store.bind("source", lease)
    marks.describe(plan)
    number = marks.load(table).rows + 1
    failed = tuple(FailedRow((f"{number}-{n}",), None, "bad", bytes(500), number) for n in range(3))
    marks.commit(Decision(table, Mark(str(number), ()), 1, 10, Position(1, number), f"v{number}", failed))
"""


def test_a_replicator_that_dies_before_any_of_its_statements_leaves_a_whole_store(tmp_path: Path) -> None:
    """From making the file to the first commit it dies before statement 1, 2, 3… until it gets through.

    Each time the next opening must find a store, with all of the commit or nothing of it.
    """
    for statement in range(1, 100):
        directory = tmp_path / str(statement)
        died = subprocess.run([sys.executable, "-c", DIES, str(directory), str(statement)], check=False)
        assert died.returncode in (0, 9)
        with open_store(directory) as store:
            stored = [(record.rows, record.failed_rows, record.mark) for record in store.tables()]
            assert stored in ([], [(0, 0, None)], [(1, 3, Mark("1", ()))])
            assert store.failed_count() == sum(failed for _, failed, _ in stored)
        if died.returncode == 0:
            assert stored == [(1, 3, Mark("1", ()))]
            break
    assert statement > 20
