"""In which order tools/chaos.py breaks things, and what it tells when nothing answers any more. [issue 4]"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.chaos import Place, diagnosis
from tests.support.faults import Rig
from tools import chaos

NAMES = [f"fault {number}" for number in range(9)]


@pytest.fixture(autouse=True)
def _in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "QUIET_SECONDS", 0.0)


def broken(seed: int, count: int) -> tuple[list[str], list[float]]:
    """The faults that come with this seed, and what chance each was given."""
    chances: list[float] = []
    place: Any = SimpleNamespace(rig=SimpleNamespace(recover=lambda seconds: 0.0))

    def fault() -> None:
        chances.append(place.random.random())

    run = chaos.Chaos(cast(Place, place), seed, dict.fromkeys(NAMES, fault))
    return [run.one()[0] for _ in range(count)], chances


def test_a_seed_decides_on_the_order_and_on_each_faults_chances() -> None:
    assert broken(7, 30) == broken(7, 30)
    assert broken(7, 30) != broken(8, 30)


def test_every_fault_comes_before_any_comes_again() -> None:
    names, _ = broken(7, 27)
    for first in (0, 9, 18):
        assert sorted(names[first : first + 9]) == NAMES


def test_a_diagnosis_tells_what_there_is_when_nothing_is_there(tmp_path: Path) -> None:
    def refuse(sql: str) -> str:
        raise ConnectionRefusedError

    told = diagnosis(Rig(tmp_path, "clickhouse://127.0.0.1:1", refuse), "everything gone")
    assert "after the fault 'everything gone'" in told
    for part in ("processes", "status file", "target", "lines of its log", "stacks", "rows that differ"):
        assert part in told
    assert told.count("not to be had: ") == 6
