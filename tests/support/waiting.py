"""Waiting in tests: for a condition, up to a deadline, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_SECONDS = 0.01


def wait_until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Return once `condition()` is true.

    Raises:
        AssertionError: `what` did not happen within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(POLL_SECONDS)
