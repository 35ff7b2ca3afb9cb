"""A clock that tests move by hand: waiting takes no time, it moves the clock. Only `work` is work."""

from __future__ import annotations

import threading


class FakeClock:
    """Time stands still until `advance` or a `wait`; the waits asked for are kept in `waits`, in seconds."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_760_000_000.0) -> None:
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._wall = wall
        self._cpu: dict[int, float] = {}
        self.waits: list[float] = []

    def monotonic(self) -> float:
        with self._lock:
            return self._monotonic

    def wall(self) -> float:
        with self._lock:
            return self._wall

    def thread_cpu(self) -> float:
        with self._lock:
            return self._cpu.get(threading.get_ident(), 0.0)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Return at once: True if `event` is set, else False with the clock `seconds` later."""
        if event.is_set():
            return True
        self.waits.append(seconds)
        self.advance(max(0.0, seconds))
        return event.is_set()

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._monotonic += seconds
            self._wall += seconds

    def work(self, seconds: float) -> None:
        """The calling thread takes so much processor time, and so long."""
        with self._lock:
            thread = threading.get_ident()
            self._cpu[thread] = self._cpu.get(thread, 0.0) + seconds
        self.advance(seconds)

    def set_wall(self, seconds: float) -> None:
        """What an administrator does to the machine's clock: the monotonic one is not moved."""
        with self._lock:
            self._wall = seconds
