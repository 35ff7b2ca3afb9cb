"""Waiting in tests: for a condition, up to a deadline, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 4.0
"""A machine whose processors many others want takes so many times longer than one that is quiet."""
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.01, 0.05
"""Asking is work too, for a server as well: who waits for long asks less often."""


def wait_until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Return once `condition()` is true.

    `seconds` is what it may take on a quiet machine, generously.

    Raises:
        AssertionError: `what` did not happen within `PATIENCE` times `seconds`.
    """
    deadline = time.monotonic() + PATIENCE * seconds
    pause = _FIRST_PAUSE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE * seconds} s in vain: {what}")
        time.sleep(pause)
        pause = min(1.1 * pause, _LAST_PAUSE_SECONDS)
