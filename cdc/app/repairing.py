"""Which version has a row that a command delivers, while a replicator delivers rows of the same source?

One of an era of the command's own, past all that the replicator gave. So the replicator has to go on past it
before the command reads a row: else a change that comes later would have a smaller version, and be lost.
"""

from __future__ import annotations

import threading

from cdc.change import Position
from cdc.clock import Clock
from cdc.comparison import Clocked
from cdc.errors import LeaseHeld
from cdc.state import Store, holder

ANSWER_SECONDS = 30.0
"""A replicator that lives looks at the store every second."""
_LOOK_SECONDS = 0.1
_NEVER = threading.Event()


class SharedClock:
    """The clock of a source that a replicator may follow at the same time."""

    def __init__(self, source: Clocked, identity: str, store: Store | None, clock: Clock) -> None:
        """`store`: the one whose eras the source counts; None: no replicator can run."""
        self._source = source
        self._identity = identity
        self._store = store
        self._clock = clock

    def outrank(self, version: int) -> Position:
        """A position of a greater version than `version`, than which all that the replicator reads from now
        on has greater ones.

        Raises:
            SourceError: the file cannot be read.
            StateError: the store cannot be used.
            LeaseHeld: the replicator does not answer.
        """
        position = self._source.outrank(version)
        store, until = self._store, self._clock.monotonic() + ANSWER_SECONDS
        while store is not None and store.eras.floor_of(self._identity) <= position.era:
            owner = holder(store.path.parent, self._identity)
            if owner is None:
                break  # the next one begins past it
            if self._clock.monotonic() >= until:
                raise LeaseHeld(
                    "repair the tables of",
                    self._identity,
                    f"{owner} replicates them, and did not answer for {ANSWER_SECONDS:.0f} seconds",
                    "Stop that replicator, and repair again",
                )
            self._clock.wait(_NEVER, _LOOK_SECONDS)
        return position
