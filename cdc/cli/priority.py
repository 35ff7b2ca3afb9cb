"""How does the replicator let the writer go first, on a machine that is busy?

By niceness; and where Linux groups threads by session (autogroup), by that of its session as well. Niceness
then counts within a session only, and programs of `cdc up` have sessions of their own: of two busy threads in
two sessions, one at niceness 10, each gets half of a core; with the session's niceness the same, a tenth.
(sched(7), "The autogroup feature". Where control groups share out the processor, it does nothing, and the
weights of those groups count between them.)
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import psutil

LOW_NICENESS = 5
"""Leaves a quarter of a core beside one who wants all of it. Not 10: that leaves a twentieth where writer and
ClickHouse are both busy, and on a machine with fifteen busy programs rows came after three seconds."""
_AUTOGROUP = Path("/proc/self/autogroup")
_ATTEMPTS, _PAUSE_SECONDS = 10, 0.1
"""Linux takes one such write in a tenth of a second from all users but root together, and says EAGAIN to
others: several replicators may be started at once."""


def give_way(niceness: int = LOW_NICENESS) -> None:
    """Let whoever wants the processor have it first. To be called before any thread is made: on Linux each
    has a niceness of its own, and inherits it. What the system refuses is left as it is."""
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        return
    process.nice(max(process.nice(), niceness))
    if sys.platform == "linux" and os.getsid(0) == process.pid:  # else it is a shell's session, say
        with contextlib.suppress(OSError, ValueError, IndexError):  # no autogroups, or a read-only /proc
            _make_session_nice(niceness)


def _make_session_nice(niceness: int) -> None:
    already = int(_AUTOGROUP.read_text().split()[-1])
    for _ in range(_ATTEMPTS):
        try:
            _AUTOGROUP.write_text(str(max(already, niceness)))
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)
        else:
            return
