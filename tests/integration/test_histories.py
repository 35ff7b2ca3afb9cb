"""A few random histories of a whole installation in every run; `tools/histories.py` plays many."""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pytest

from cdc.change import Batch
from cdc.target.table import ClickHouseTable
from tests.support.clickhouse import ClickHouseServer
from tests.support.histories import History, run_history, warm_up
from tests.support.histories.tables import PLAIN
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def player() -> Iterator[ProcessPoolExecutor]:
    """A process of one thread, so that it may fork, with everything imported."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), warm_up) as pool:
        yield pool


@pytest.fixture
def server(clickhouse_server: ClickHouseServer) -> ClickHouseServer:
    """The server as another process may have it: to be asked."""
    asked = copy.copy(clickhouse_server)
    asked._process = None
    return asked


@pytest.mark.parametrize("seed", range(6))
def test_a_history_ends_with_equal_sides_or_an_alert_names_the_table(
    player: ProcessPoolExecutor, server: ClickHouseServer, tmp_path: Path, seed: int
) -> None:
    """Compared without the product: the closed file as DuckDB reads it, the target by SQL."""
    verdict = player.submit(run_history, tmp_path / "history", server, seed, cold=seed == 0).result()
    assert verdict.holds, f"{verdict.silent}\nafter {' '.join(verdict.steps)}\n{verdict.log}"


@pytest.mark.timeout(300)
def test_a_history_finds_a_replicator_that_delivers_no_deletions(
    player: ProcessPoolExecutor, server: ClickHouseServer, tmp_path: Path
) -> None:
    """The check itself is checked: what it finds nothing wrong with must have been able to be wrong."""
    silent = player.submit(_play_without_deletions, tmp_path / "history", server).result()
    assert silent["plain"].startswith("0 missing [], 1 left over"), silent


def _play_without_deletions(directory: Path, server: ClickHouseServer) -> dict[str, str]:
    history = History(
        directory,
        server,
        seed=1,
        cold=False,
        broken=_deliver_no_deletions,
        more="[audit]\nenabled = false",
        equal_seconds=0.5,
        chosen=(PLAIN,),
    )
    try:
        history._start()
        wait_until(lambda: not history._differences(history._live_rows), "the first rows to arrive", 100)
        history.run("DELETE FROM plain WHERE id = (SELECT min(id) FROM plain)")
        history.run("INSERT INTO plain VALUES (-1, 1000000, 0, 'after it')")
        arrived = ("-1", "1000000", "0", "after it")
        wait_until(lambda: arrived in history._target_rows(PLAIN), "the row after the deletion", 100)
        silent, _ = history.end()
    finally:
        history.close()
    return silent


def _deliver_no_deletions() -> None:
    encode = ClickHouseTable.encode

    def without(self: ClickHouseTable, batch: Batch) -> object:
        if batch.deleted is None:
            return encode(self, batch)
        kept = pc.invert(batch.deleted)
        rest = replace(
            batch, rows=batch.rows.filter(kept), versions=batch.versions.filter(kept), deleted=None
        )
        return encode(self, rest)

    setattr(ClickHouseTable, "encode", without)  # noqa: B010 - mypy refuses =
