"""A source that is closed while threads read it: in a process of its own, which the wrong close ends."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cdc.errors import SourceError
from cdc.source import open_source
from tests.support.closing import ROUNDS
from tests.support.writers import Writer

ROOT = Path(__file__).parents[2]


def closed_under(case: str, path: Path) -> list[dict[str, Any]]:
    """What came of closing the source under `case`; the process ended of itself."""
    command = [sys.executable, "-m", "tests.support.closing", case, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120.0, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def rows(writer: Writer, count: int) -> None:
    writer.run(f"CREATE TABLE t AS SELECT range AS id, range AS seq FROM range({count})")
    writer.run("CHECKPOINT")


@pytest.mark.parametrize("case", ["count", "stream"])
def test_a_close_interrupts_the_query_under_way_and_waits_for_it(case: str, tmp_path: Path) -> None:
    with Writer(tmp_path / "t.db") as writer:
        rows(writer, 100_000)
        [found] = closed_under(case, writer.path)
    assert found["met"] == ["it was closed"]
    assert found["closed"]
    assert found["seconds"] < 10.0


def test_closing_under_busy_readers_never_ends_the_process(tmp_path: Path) -> None:  # [R3]
    """With a writer that commits and checkpoints meanwhile, so that logs are replayed and followed."""
    stop = threading.Event()
    with Writer(tmp_path / "t.db", config={"checkpoint_threshold": "100KB"}) as writer:
        rows(writer, 10_000)

        def write() -> None:
            at = 10_000
            while not stop.wait(0.01):
                writer.run(f"INSERT INTO t SELECT range, range FROM range({at}, {at + 20})")
                at += 20

        thread = threading.Thread(target=write)
        thread.start()
        try:
            found = closed_under("replicate", writer.path)
        finally:
            stop.set()
            thread.join()
    assert len(found) == ROUNDS
    for each in found:
        assert set(each["met"]) == {"it was closed"}
        assert each["closed"]


def test_a_call_that_cannot_be_interrupted_keeps_duckdb_open_and_ends_well(tmp_path: Path) -> None:
    with Writer(tmp_path / "t.db") as writer:
        rows(writer, 100_000)
        [found] = closed_under("stuck", writer.path)
    assert not found["closed"]
    assert 0.2 < found["seconds"] < 1.5
    assert found["met"] == ["it was closed"]


def test_a_closed_source_refuses_and_may_be_closed_again(tmp_path: Path) -> None:
    with Writer(tmp_path / "t.db") as writer:
        rows(writer, 10)
        source = open_source(writer.path)
        snapshot = source.snapshot()
        source.close()
        for call in (source.tables, source.snapshot, lambda: snapshot.query("FROM t")):
            with pytest.raises(SourceError, match=r"it was closed\. Open it again"):
                call()
        snapshot.close()
        source.close()
        assert source.closed
