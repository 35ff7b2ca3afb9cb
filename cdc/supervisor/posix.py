"""How processes are started, signalled and recognised on POSIX systems."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from typing import Any

import psutil

assert sys.platform != "win32"


SIGNALS = True
"""Whether a program can be sent a signal to reload."""


def popen_options(user: str | None) -> dict[str, Any]:
    """Keywords for Popen: a session of its own, so that nothing sent to ours reaches it; and the user.

    Raises:
        KeyError: there is no such user.
    """
    options: dict[str, Any] = {"start_new_session": True}
    if user is not None:
        import pwd

        entry = pwd.getpwnam(user)
        groups = os.getgrouplist(user, entry.pw_gid)
        options |= {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}
    return options


def in_session(pid: int, leader: int) -> bool:
    """Whether process `pid` belongs to the session that `leader` began."""
    try:
        return os.getsid(pid) == leader
    except OSError:
        return False


def environment(_mark: str) -> dict[str, str]:
    """What a program is told besides: nothing."""
    return {}


def ask_to_stop(process: psutil.Process, signal_name: str, _mark: str) -> None:
    """Send the signal, and let a suspended process run so that it can act on it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.Signals[signal_name])
        process.send_signal(signal.SIGCONT)


def reap(pids: Iterable[int]) -> None:
    """Collect the exit status of children that have ended; others are left alone."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
