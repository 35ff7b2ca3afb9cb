"""Does a supervisor keep one copy of each program, and no orphan, whatever is killed?

For a while, at random: programs and their children are killed or suspended, programs are stopped, started and
restarted by a person, and the supervisor itself is killed and begun again. Each process holds a lock file of
its own while it lives, so that a second copy finds out. At the end all must run, and after the supervisor's
shutdown nothing of them may be left. Prints what was done; exit code 1 with what was wrong.

    python -m tools.stress_supervisor --seconds 120
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from cdc.errors import CdcError
from tests.support.supervision import Supervision, marked, program, supervised

NAMES = ("writer", "replicator", "watcher")
PAUSE_SEC = 0.6
"""The longest pause between two blows: often shorter than a start takes."""
SETTLE_SEC = 60.0

SOURCE = """
import fcntl, pathlib, subprocess, sys, time
directory, name, role = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
lock = open(directory / f"{name}-{role}.lock", "a")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    with open(directory / "violations", "a") as file:
        print(f"a second {role} of {name}", file=file)
if role == "main":
    subprocess.Popen([sys.executable, *sys.orig_argv[1:-1], "child"], start_new_session=name == "watcher")
time.sleep(3600)
"""


def blow(run: Supervision, dice: random.Random) -> str:
    """Do one thing to one program or to the supervisor; what it was."""
    name = dice.choice(NAMES)
    kind = dice.choices(("kill", "kill child", "suspend", "supervisor", "ask"), (5, 2, 1, 2, 3))[0]
    if kind == "supervisor":
        run.kill()
        time.sleep(dice.uniform(0, PAUSE_SEC))
        run.begin()
        return kind
    if kind == "ask":
        command = dice.choice(("restart", "start", "stop"))
        with contextlib.suppress(CdcError):
            run.ask(command, name)
        return command
    found = marked(run.directory, (f"{name}:",))
    if not found:
        return "none there"
    victim = max(found, key=lambda process: process.pid) if kind == "kill child" else found[0]
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.send_signal(signal.SIGSTOP if kind == "suspend" else signal.SIGKILL)
    return kind


def stress(directory: Path, seconds: float, seed: int) -> list[str]:
    """What was wrong; nothing, if all is well."""
    dice = random.Random(seed)
    restart = {"backoff_initial_sec": 0.05, "backoff_max_sec": 0.1, "max_restarts": 100_000}
    programs = {
        name: program(SOURCE, directory, name, "main", restart=restart, grace_sec=0.5) for name in NAMES
    }
    done: Counter[str] = Counter()
    wrong: list[str] = []
    with supervised(directory, **programs) as run:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(dice.uniform(0, PAUSE_SEC))
            done[blow(run, dice)] += 1
        for name in NAMES:
            run.ask("start", name)
        for name in NAMES:
            run.wait_for("running", name)
        if run.end() != 0:
            wrong.append("the supervisor did not end in order")
        wrong += [f"left behind: {process}" for process in marked(directory, tuple(f"{n}:" for n in NAMES))]
        if "Traceback" in run.own_log():
            wrong.append(run.own_log()[run.own_log().index("Traceback") :])
    violations = directory / "violations"
    if violations.exists():
        wrong += violations.read_text().splitlines()
    print(
        f"seed {seed}, {seconds:g} s:", ", ".join(f"{count} {what}" for what, count in sorted(done.items()))
    )
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=os.getpid())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        wrong = stress(Path(directory), options.seconds, options.seed)
    print("\n".join(wrong) or "one copy of each, and nothing left behind")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
