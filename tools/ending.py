"""How does a tool end that is told to by SIGTERM? As by Ctrl-C, so that its `with` blocks run, and alone."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

import psutil


@contextlib.contextmanager
def leaving_nothing() -> Iterator[None]:
    """Within it SIGTERM is Ctrl-C. At its end no process is left, not even one that was just being started:
    an interrupt within `Popen` leaves nobody who knows of it.

    An interrupt within `Popen.poll` leaves the process unwaited for, however long its `with` block waits. So
    what fails after an interrupt failed because of it.
    """
    told: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        told.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    try:
        yield
    except Exception as error:
        if told:
            raise KeyboardInterrupt from error
        raise
    finally:
        for left in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
