"""The in-memory DuckDB that all reading goes through, and what it is set to."""

from __future__ import annotations

import pytest

from cdc.source.file.session import SMALL_STATEMENTS, Session, SessionLimits


def settings(limits: SessionLimits, *names: str) -> list[object]:
    session = Session(limits)
    cursor = session.cursor()
    found = [cursor.execute("SELECT current_setting(?)", [name]).fetchall()[0][0] for name in names]
    cursor.close()
    session.close()
    return found


def optimizers() -> set[str]:
    """Those of the DuckDB in use."""
    session = Session(SessionLimits())
    cursor = session.cursor()
    found = {name for (name,) in cursor.execute("SELECT name FROM duckdb_optimizers()").fetchall()}
    cursor.close()
    session.close()
    return found


def test_it_keeps_to_its_memory_and_threads() -> None:
    memory, threads = settings(SessionLimits(memory_mb=100, threads=1), "memory_limit", "threads")
    assert (memory, threads) == ("95.3 MiB", 1)


@pytest.mark.parametrize("wanted", [None, SMALL_STATEMENTS])
def test_only_the_wanted_optimizers_are_used(wanted: frozenset[str] | None) -> None:
    [disabled] = settings(SessionLimits(optimizers=wanted), "disabled_optimizers")
    off = set(str(disabled).split(",")) - {""}
    assert optimizers() - off == (optimizers() if wanted is None else wanted)


def test_duckdb_knows_the_optimizers_of_small_statements() -> None:
    assert optimizers() >= SMALL_STATEMENTS
