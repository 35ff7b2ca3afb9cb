"""How much of the disk may the spools of one source take together? [R5]"""

from __future__ import annotations

import threading


class DiskBudget:
    """How many bytes the spools of one source may take together. Thread safe."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._used = 0

    def __repr__(self) -> str:
        return f"DiskBudget({self._used} of {self._limit} bytes)"

    @property
    def share(self) -> float:
        with self._lock:
            return self._used / self._limit

    def has(self, nbytes: int) -> bool:
        """Whether there is room for so many more bytes."""
        with self._lock:
            return self._used + nbytes <= self._limit

    def take(self, nbytes: int) -> bool:
        """Whether there was room for so many more bytes; it is taken then."""
        with self._lock:
            if self._used + nbytes > self._limit:
                return False
            self._used += nbytes
            return True

    def occupy(self, nbytes: int) -> None:
        """So many bytes are there already."""
        with self._lock:
            self._used += nbytes

    def give_back(self, nbytes: int) -> None:
        with self._lock:
            self._used -= nbytes
