"""A tool that is told to end ends what it has started, at whatever step it is. [issue 4]"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.replica import ROOT
from tests.support.waiting import wait_until

BENCH = ("-m", "tools.bench", "latency", "--quick")
CHAOS = ("tools/chaos.py",)


def _started(directory: Path, word: str = "") -> list[psutil.Process]:
    """The processes that work below `directory`, or were given it for temporary files, with `word` in their
    command. Redis writes its title over its environment, and is known by where it works."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("TMPDIR") == str(directory)
            ours = ours or directory in Path(process.cwd()).parents
            if ours and word in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            pass  # gone, or not ours to look at
    return found


@pytest.mark.parametrize(
    ("tool", "word"),
    [
        (BENCH, "clickhouse-server"),
        (BENCH, "--replicate"),
        (CHAOS, "clickhouse-server"),
        (CHAOS, "redis-server"),
        (CHAOS, "commanded_writer"),
        (CHAOS, "multiprocessing.forkserver"),
    ],
)
def test_a_tool_that_is_terminated_leaves_no_process(
    tool: tuple[str, ...], word: str, tmp_path: Path
) -> None:
    """Terminated at the moment when it has started what has this word in its command."""
    said = tmp_path / "said"
    with (
        said.open("wb") as output,
        subprocess.Popen(
            [sys.executable, *tool],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(tmp_path)},
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            wait_until(lambda: _started(tmp_path, word), f"{word} to run", 60.0)
            process.terminate()
            assert process.wait(60.0) == -signal.SIGINT, said.read_text()
            wait_until(lambda: not _started(tmp_path), "all to have ended")
        finally:
            for left in _started(tmp_path):
                left.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_fails_after_an_interrupt_is_the_interrupt(number: signal.Signals) -> None:
    """As a wait for a process fails of which nobody knows any more."""
    steps = [
        "import os",
        "from tools.ending import leaving_nothing",
        "with leaving_nothing():",
        "    try:",
        f"        os.kill(os.getpid(), {number.value})",
        "    finally:",
        "        raise TimeoutError",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(steps)], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGINT, done.stderr


def test_what_fails_without_an_interrupt_is_told() -> None:
    steps = ["from tools.ending import leaving_nothing", "with leaving_nothing():", "    raise TimeoutError"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(steps)], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, b"TimeoutError" in done.stderr) == (1, True)
