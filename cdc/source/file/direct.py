"""How is the file read where it cannot be read beside its writer: by opening it while no writer holds it.

On Windows a DuckDB writer shares neither its file nor its log, so nothing can be read until it lets go. Its
handle must never be duplicated: DuckDB truncates its files where the handle's pointer is, which a read
through the duplicate moves. Opening takes DuckDB's shared lock, which keeps a writer from starting: so it
lasts for one read, never longer. What is to be read live there is served by its writer (`cdc.source.served`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from cdc.clock import Clock
from cdc.errors import Meaning, SourceError
from cdc.source.file.pin import Pin
from cdc.source.file.session import Attachment

LOCK_WAIT_SECONDS = 10.0
"""How long one read waits for a writer to let go before it says so."""
_PAUSE_SECONDS = 0.1

_HELD = ("lock on file", "used by another process", "could not set lock", "conflicting lock")
"""What DuckDB's errors say when another process holds the file (local_file_system.cpp)."""


def attach_when_free(
    attach: Callable[[Pin, str], Attachment], pin: Pin, clock: Clock, wait_seconds: float = LOCK_WAIT_SECONDS
) -> Attachment:
    """What `attach(pin, path)` answers, tried again while another process holds the file.

    Raises:
        SourceError: the file is still held, with the meaning retry; or it cannot be read for another reason.
    """
    deadline = clock.monotonic() + wait_seconds
    while True:
        try:
            return attach(pin, str(pin.path))
        except SourceError as error:
            if not any(words in error.problem.lower() for words in _HELD):
                raise
            if clock.monotonic() >= deadline:
                raise _held(pin) from error
            clock.wait(threading.Event(), _PAUSE_SECONDS)


def _held(pin: Pin) -> SourceError:
    return SourceError(
        "open",
        pin.path,
        "its writer holds it, and it is to be opened directly",
        "Wait until the writer closes the file, or have it serve its database and read that (docs/quack.md)",
        meaning=Meaning.RETRY,
    )
