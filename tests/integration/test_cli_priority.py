"""How the replicator lets the writer go first."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cdc.cli import priority
from cdc.cli.priority import LOW_NICENESS

AUTOGROUP = Path("/proc/self/autogroup")
TOLD = """
import os, pathlib
from cdc.cli.priority import give_way
give_way()
print(os.nice(0))
print(pathlib.Path("/proc/self/autogroup").read_text().split()[-1])
"""

pytestmark = pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel groups no threads by session")


def told(*, leader: bool) -> list[int]:
    """The niceness of a program and of its new session, which it leads or shares with a shell that does."""
    command = [sys.executable, "-c", TOLD]
    if not leader:
        command = ["sh", "-c", f"{shlex.join(command)}; exit $?"]  # not the last word: the shell must stay
    found = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True)
    return [int(line) for line in found.stdout.split()]


def test_a_program_in_a_session_of_its_own_makes_the_session_nice_too() -> None:
    assert told(leader=True) == [LOW_NICENESS, LOW_NICENESS]


def test_a_session_shared_with_others_keeps_its_niceness() -> None:
    assert told(leader=False) == [LOW_NICENESS, 0]


def test_a_write_that_comes_too_soon_after_another_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy:
        """As the kernel refuses a second write within a tenth of a second."""

        def __init__(self) -> None:
            self.written: list[str] = []
            self.refusals = 2

        def read_text(self) -> str:
            return "/autogroup-1 nice 0\n"

        def write_text(self, text: str) -> None:
            if self.refusals:
                self.refusals -= 1
                raise BlockingIOError
            self.written.append(text)

    busy = Busy()
    monkeypatch.setattr(priority, "_AUTOGROUP", busy)
    monkeypatch.setattr(priority, "_PAUSE_SECONDS", 0.0)
    priority._make_session_nice(5)
    assert busy.written == ["5"]
