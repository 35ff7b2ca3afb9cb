"""When is the status file written? At once for a change of state, soon for progress, and as a heartbeat."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from cdc.clock import Clock
from cdc.errors import StateError
from cdc.observe.status import Status, write_status
from cdc.private import private_directory

WRITE_SECONDS = 1.0
"""The status file is written at most this often for progress; a change of state is written at once."""
HEARTBEAT_SECONDS = 5.0
"""It is written at least this often, so that its age says whether the process lives."""


class StatusFile:
    """Keeps the file at `path` true, in a thread of its own, so that no event waits for a disk.

    It is a context manager: entering starts the thread (StateError where the directory cannot be made),
    leaving writes the last word.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        status: Callable[[], Status],
        look: Callable[[], bool],
        unwritten: Callable[[Path, OSError], None],
    ) -> None:
        """
        Args:
            status: what to write; may read the store.
            look: is called about once a second, and answers whether the status is another by it.
            unwritten: is told that the file could not be written; it is tried again.
        """
        self._path = path
        self._clock = clock
        self._status = status
        self._look = look
        self._unwritten = unwritten
        self._dirty = False
        self._urgent = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._write_on, name="status", daemon=True)

    def __enter__(self) -> Self:
        try:
            private_directory(self._path.parent)
        except OSError as error:
            raise StateError(
                "create the state directory",
                self._path.parent,
                error.strerror or type(error).__name__,
                "Name a directory this user may write, in state.directory",
            ) from None
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        self._urgent.set()
        self._thread.join()
        self._write()

    def changed(self, *, urgent: bool = False) -> None:
        """The status is another; never waits."""
        self._dirty = True
        if urgent:
            self._urgent.set()

    def _write_on(self) -> None:
        written_at = -math.inf
        while not self._stop:
            now = self._clock.monotonic()
            self._dirty |= self._look()
            if self._urgent.is_set() or self._dirty or now - written_at >= HEARTBEAT_SECONDS:
                self._urgent.clear()
                self._dirty = False
                self._write()
                written_at = now
            if not self._stop:  # after `clear`, which may have taken the end for a change
                self._clock.wait(self._urgent, WRITE_SECONDS)

    def _write(self) -> None:
        try:
            write_status(self._path, self._status())
        except OSError as error:  # the replication goes on; the next tick tries again
            self._dirty = True
            self._unwritten(self._path, error)
