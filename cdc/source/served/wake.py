"""When is a served database looked at next? When its log has grown, where that shows, else after a while.

The size of a file can be asked for on every system, also of one that is not shared. But a path that the
server names may be on another host, and be another file here: so the log only ends a wait early. Without it
the pause between two looks grows as long as nothing comes of them.

Positions are a counter: one more for each look that is due and for each page that is handed out. So a row
that is read later has a greater version.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from cdc.change import Position
from cdc.clock import Clock
from cdc.eras import Eras

_LOOK_SECONDS = 0.005
"""Between two looks at the size of the log."""
_CALM_LOOK_SECONDS = 0.05
"""The same when nothing has happened for a while: what it takes then is not worth mentioning."""
_GROWTH = 1.3
_OFFSET_STEP = 16
"""Of two positions of one era: what makes them two versions."""


class Ticks:
    """Positions that only grow: an era of their own, a counter in it. Safe to use from several threads."""

    def __init__(self, eras: Eras) -> None:
        self._eras = eras
        self._guard = threading.Lock()
        self._era = eras.take()
        self._offset = 0

    def now(self) -> Position:
        """The newest one."""
        with self._guard:
            return self._newest()

    def next(self) -> Position:
        """One more."""
        with self._guard:
            self._offset += _OFFSET_STEP
            return self._newest()

    def renew(self) -> None:
        """Begin another era: who looks at the catalog once in each looks again."""
        with self._guard:
            self._era, self._offset = self._eras.take(), 0

    def past(self, version: int) -> Position:
        """The newest one, of a greater version than `version`, as all that follow are."""
        with self._guard:
            if self._newest().as_version() <= version:
                self._eras.past(version)
            return self._newest()

    def _newest(self) -> Position:
        if self._era < self._eras.floor:
            self._era, self._offset = self._eras.take(), 0
        return Position(self._era, 0, self._offset)


class Wake:
    """Waits for something to look at. Safe to use from several threads.

    Args:
        log: the log as the server names it; it need not be here.
        shortest, longest: seconds between two looks.
    """

    def __init__(
        self, ticks: Ticks, clock: Clock, log: Path | None, *, shortest: float, longest: float
    ) -> None:
        self._ticks = ticks
        self._clock = clock
        self._log = log
        self._shortest = shortest
        self._longest = longest
        self._pause = shortest
        self._looked_at = clock.monotonic()
        self._guard = threading.Lock()
        self._waiting: set[threading.Event] = set()
        self._woken = False
        self._nudges = 0
        self._size = self._sized()
        self.sees_log = self._size is not None
        """Whether the log is here."""

    def found(self) -> None:
        """A look was worth it: the next one is soon."""
        with self._guard:
            self._pause = self._shortest

    def wait(self, since: Position, timeout_seconds: float) -> Position:
        """Wait until the position differs from `since`, and answer it; `since` itself if the time passed or
        `nudge` or `wake` was called."""
        deadline = self._clock.monotonic() + timeout_seconds
        changed, nudges = threading.Event(), self._nudges
        with self._guard:
            self._waiting.add(changed)
        try:
            while True:
                changed.clear()
                if self._woken:
                    return since
                self._look()
                position = self._ticks.now()
                left = deadline - self._clock.monotonic()
                if position != since:
                    return position
                if left <= 0 or self._nudges != nudges:
                    return since
                self._clock.wait(changed, min(left, self._until_next()))
        finally:
            with self._guard:
                self._waiting.discard(changed)

    def nudge(self) -> None:
        """End every `wait` that is under way."""
        self._nudges += 1
        self._tell()

    def wake(self) -> None:
        """End every `wait` now, and those to come."""
        self._woken = True
        self._tell()

    @property
    def woken(self) -> bool:
        return self._woken

    def _look(self) -> None:
        """Count one more if the log has changed, or if it is time."""
        with self._guard:
            now = self._clock.monotonic()
            size = self._sized()
            if size is not None and size != self._size:
                self._pause = self._shortest
            elif now - self._looked_at < self._pause:
                return
            else:
                self._pause = min(self._pause * _GROWTH, self._longest)
            self._size, self._looked_at = size, now
            self._ticks.next()

    def _until_next(self) -> float:
        with self._guard:
            left = max(0.001, self._looked_at + self._pause - self._clock.monotonic())
            if self._size is None:
                return left
            return min(left, _LOOK_SECONDS if self._pause < _CALM_LOOK_SECONDS else _CALM_LOOK_SECONDS)

    def _sized(self) -> int | None:
        """The size of the log; 0 where its directory is here and it is not, as after a checkpoint."""
        if self._log is None:
            return None
        try:
            return os.stat(self._log).st_size
        except FileNotFoundError:
            return 0 if self._log.parent.is_dir() else None
        except OSError:
            return None

    def _tell(self) -> None:
        with self._guard:
            for changed in self._waiting:
                changed.set()
