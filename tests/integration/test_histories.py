"""A few random histories of a whole installation in every run; `tools/histories.py` plays many."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.histories import run_history


@pytest.mark.parametrize("seed", range(6))
def test_a_history_ends_with_equal_sides_or_an_alert_names_the_table(
    clickhouse_server: ClickHouseServer, tmp_path: Path, seed: int
) -> None:
    """Compared without the product: the closed file as DuckDB reads it, the target by SQL."""
    verdict = run_history(tmp_path / "history", clickhouse_server, seed)
    assert verdict.holds, f"{verdict.silent}\nafter {' '.join(verdict.steps)}\n{verdict.log}"
