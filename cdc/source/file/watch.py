"""Has the source changed? Notified by the file system where it can, and by looking where it cannot.

A notification only ends a wait early: what is true is the position, read from the headers and the log. So a
lost notification costs time, never rows. While changes follow one another without a pause notifications are
turned off, for they would cost more than looking: a fifth of a core at 850 commits a second.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from cdc.change import NOWHERE, Position
from cdc.clock import Clock
from cdc.source.file.pin import Pinner
from cdc.source.file.places import CHECKPOINT_LOG, LOG

# Turned off while it waits for a notification, it calls that an error.
logging.getLogger("watchdog.observers.inotify").setLevel(logging.CRITICAL)

SHORTEST_POLL_SECONDS = 0.005
"""After a change without notifications: the next one is probably near."""
_CALM_SECONDS = 0.05
"""A pause between changes that is worth a notification."""
_BUSY_CHANGES = 20
"""So many changes without such a pause turn notifications off. One that is there when it is asked for came
without a pause, however long the asker was at work."""
_GROWTH = 1.3
"""How much longer each fruitless look makes the next pause: from the shortest to a second in 21 looks."""

_EVENTS: list[type[FileSystemEvent]] = [
    FileModifiedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileClosedEvent,
]
"""Changes only: our own opening and closing of the files must not wake us."""


class Watch:
    """Waits for a change of position. Safe to use from several threads.

    Args:
        poll_seconds: the longest pause between two looks.
        notify: whether to ask the file system; False looks only.
    """

    def __init__(self, pinner: Pinner, clock: Clock, poll_seconds: float, *, notify: bool = True) -> None:
        self._pinner = pinner
        self._clock = clock
        self._longest = poll_seconds
        self._pause = min(SHORTEST_POLL_SECONDS, poll_seconds)
        self._guard = threading.Lock()
        self._waiting: set[threading.Event] = set()
        self._woken = threading.Event()
        self._nudges = 0
        self._last_change = NOWHERE, clock.monotonic()
        self._changes_in_a_row = 0
        self._observer = Observer() if notify else None
        self.notified = False
        """Whether the file system tells of changes now."""
        if self._observer is not None:
            self._observer.start()
            self._turn_on()

    def position(self) -> Position:
        """The newest committed position.

        Raises:
            SourceError: the file cannot be read.
        """
        return self._pinner.position()

    def wait(self, since: Position, timeout_seconds: float) -> Position:
        """Wait until the position differs from `since`, and answer it; `since` itself if the time passed, or
        `nudge` or `wake` was called.

        Raises:
            SourceError: the file cannot be read.
        """
        deadline = self._clock.monotonic() + timeout_seconds
        changed, nudges = threading.Event(), self._nudges
        waited = False
        with self._guard:
            self._waiting.add(changed)
        try:
            while not self._woken.is_set():
                changed.clear()
                position = self.position()
                if position != since:
                    self._changed(position, waited=waited)
                    return position
                left = deadline - self._clock.monotonic()
                if (
                    left <= 0 or self._nudges != nudges or self._woken.is_set()
                ):  # since the loop's question, and before `clear`
                    return since
                waited = True
                self._clock.wait(changed, min(left, self._next_pause()))
            return since
        finally:
            with self._guard:
                self._waiting.discard(changed)

    def nudge(self) -> None:
        """End every `wait` that is under way."""
        self._nudges += 1
        self._tell()

    def wake(self) -> None:
        """End every `wait` now, and those to come."""
        self._woken.set()
        self._tell()

    def close(self) -> None:
        self.wake()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def _next_pause(self) -> float:
        with self._guard:
            if self.notified and self._observer is not None and self._observer.is_alive():
                return self._longest
            self._pause = min(self._pause * _GROWTH, self._longest)
            if self._pause < _CALM_SECONDS or not self._turn_on():
                return self._pause
            return 0.0  # one more look: what changed before notifications were on is not told

    def _changed(self, position: Position, *, waited: bool) -> None:
        """Note that the position is now `position`, and whether there was a pause before it."""
        now = self._clock.monotonic()
        with self._guard:
            self._pause = min(SHORTEST_POLL_SECONDS, self._longest)
            known, before = self._last_change
            if position == known:  # another thread's wait has ended by it
                return
            self._last_change = position, now
            calm = waited and now - before > _CALM_SECONDS
            self._changes_in_a_row = 0 if calm else self._changes_in_a_row + 1
            if self._observer is not None and self.notified and self._changes_in_a_row >= _BUSY_CHANGES:
                self._observer.unschedule_all()
                self.notified = False

    def _tell(self) -> None:
        with self._guard:
            for changed in self._waiting:
                changed.set()

    def _turn_on(self) -> bool:
        """Ask for notifications of the directory; whether the system offers them."""
        if self._observer is None:
            return False
        paths = [Path(name).absolute() for name in self._pinner.names]
        names = {path.name + suffix for path in paths for suffix in ("", LOG, CHECKPOINT_LOG)}
        handler = _Handler(names, self._tell)
        try:
            for directory in {str(path.parent) for path in paths}:
                self._observer.schedule(handler, directory, event_filter=_EVENTS)
        except OSError:  # no inotify, or none left: looking does without
            self._observer.stop()
            self._observer = None
            return False
        self.notified = True
        return True


class _Handler(FileSystemEventHandler):
    """Passes on what concerns one of `names`."""

    def __init__(self, names: set[str], tell: Any) -> None:
        self._names = names
        self._tell = tell

    def on_any_event(self, event: FileSystemEvent) -> None:
        for path in (event.src_path, event.dest_path):
            name = path.decode(errors="replace") if isinstance(path, bytes) else path
            if name.replace("\\", "/").rsplit("/", 1)[-1] in self._names:
                self._tell()
                return
