"""How processes are started, signalled and recognised on Windows."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import psutil

from cdc.stop_event import VARIABLE, name_of, set_event

assert sys.platform == "win32"


SIGNALS = False
"""Whether a program can be sent a signal to reload."""


def popen_options(user: str | None) -> dict[str, Any]:
    """Keywords for Popen: no console and a group of its own, so that no break meant for us reaches it.

    Raises:
        KeyError: a user was asked for; run the service as that user instead.
    """
    if user is not None:
        raise KeyError(f"programs cannot be run as another user ({user}) on Windows")
    return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}


def in_session(_pid: int, _leader: int) -> bool:
    """Windows has no such sessions; the tree is known by its parents and its environment."""
    return False


def environment(mark: str) -> dict[str, str]:
    """What a program is told besides: the name of the event by which it is asked to stop."""
    return {VARIABLE: name_of(mark)}


def ask_to_stop(process: psutil.Process, _signal_name: str, mark: str) -> None:
    """Set the event of this start of the program; one that has made none is terminated: DuckDB recovers."""
    if set_event(name_of(mark)):
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()


def reap(_pids: Iterable[int]) -> None:
    """Windows has no zombies."""
