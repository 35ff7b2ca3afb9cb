"""A short run of tools/chaos.py with a fixed seed. The long ones are started by hand."""

from __future__ import annotations

from tools.chaos import run

SEED = 4
FAULTS = 12


def test_random_faults_leave_source_and_target_equal() -> None:
    said: list[str] = []
    chaos = run(0.0, SEED, rate=100, least=FAULTS, say=said.append)
    assert chaos.done.total() == FAULTS
    assert "0 lost, 0 twice under FINAL" in "\n".join(said)
