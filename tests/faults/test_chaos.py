"""A minute of tools/chaos.py with a fixed seed. The long runs are started by hand."""

from __future__ import annotations

from tools.chaos import run

SEED = 4
MINUTES = 1.0


def test_a_minute_of_random_faults_leave_source_and_target_equal() -> None:
    said: list[str] = []
    chaos = run(MINUTES, SEED, rate=100, least=0, say=said.append)
    assert chaos.done.total() > 0
    assert "0 lost, 0 twice under FINAL" in "\n".join(said)
