"""How are the stretches of a source's history counted, so that what is read later has a greater version?

A counter that only grows, whatever becomes of the file. One that is lost begins again past what it was:
either past what the target shows, or, for a user who may not read there, by the time of day.
"""

from __future__ import annotations

import threading
from typing import Protocol

from cdc.change import LAST_ERA, era_of
from cdc.errors import StateError

FIRST_ERA = 1 << 29
"""Past the versions that earlier releases made of a version column, up to timestamps in nanoseconds."""
ERAS_PER_SECOND = 2
"""What a counter may take of them for all its life, so that the one after its loss begins past it."""
_EPOCH = 1_735_689_600
"""2025-01-01."""


class Eras(Protocol):
    """The counter, for one process. Safe to use from several threads."""

    @property
    def floor(self) -> int:
        """No position of an era before it is to be made any more."""
        ...

    def take(self) -> int:
        """An era that nobody has taken before, greater than all that were, and not before `floor`.

        Raises:
            StateError: it could not be reserved.
        """
        ...

    def past(self, version: int) -> None:
        """Raise `floor` past the era of `version`.

        Raises:
            StateError: it could not be stored, or there is no era past it.
        """
        ...


class MemoryEras:
    """A counter for those who keep nothing from run to run."""

    def __init__(self, wall_seconds: float) -> None:
        self.floor = first_era(wall_seconds)
        self._last = self.floor - 1
        self._lock = threading.Lock()

    def take(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, self.floor)
            return self._last

    def past(self, version: int) -> None:
        with self._lock:
            self.floor = max(self.floor, self._last + 1, first_past(version))


def first_era(wall_seconds: float) -> int:
    """Where a counter begins of which nothing is known."""
    return FIRST_ERA + ERAS_PER_SECOND * max(0, int(wall_seconds) - _EPOCH)


def first_past(version: int) -> int:
    """The first era whose versions are all greater than `version`.

    Raises:
        StateError: there is none.
    """
    if (era := era_of(version)) >= LAST_ERA:
        raise StateError(
            "make a version greater than",
            version,
            "no row that is sent can take the place of one that has it",
            "Remove the rows that have it from the target",
        )
    return era + 1
