"""How processes are started, signalled and recognised on Windows."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import psutil

assert sys.platform == "win32"


def popen_options(user: str | None) -> dict[str, Any]:
    """Keywords for Popen: a process group of its own, so that a break can be sent to it alone.

    Raises:
        KeyError: a user was asked for; run the service as that user instead.
    """
    if user is not None:
        raise KeyError(f"programs cannot be run as another user ({user}) on Windows")
    return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}


def in_session(_pid: int, _leader: int) -> bool:
    """Windows has no such sessions; the tree is known by its parents and its environment."""
    return False


def ask_to_stop(process: psutil.Process, _signal_name: str) -> None:
    """Send a console break to the group; without a common console the process is terminated."""
    with contextlib.suppress(psutil.NoSuchProcess):
        try:
            os.kill(process.pid, signal.CTRL_BREAK_EVENT)
        except OSError:
            process.terminate()


def reap(_pids: Iterable[int]) -> None:
    """Windows has no zombies."""
