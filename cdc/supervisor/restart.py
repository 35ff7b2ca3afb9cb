"""Whether a program that failed is started again, and after how long: intensity in a window, then no more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from cdc.config.programs import RestartConfig


class Restarts:
    """The restarts of one program.

    Args:
        random: uniform in [0, 1), for the jitter.
        ages: seconds ago of restarts made by an earlier supervisor.
    """

    def __init__(
        self, config: RestartConfig, random: Callable[[], float], now: float, ages: Iterable[float] = ()
    ) -> None:
        self._config = config
        self._random = random
        self._times = deque(sorted(now - age for age in ages if 0 <= age < config.window_sec))

    def __repr__(self) -> str:
        return f"Restarts({list(self._times)})"

    def next_delay(self, now: float) -> float | None:
        """Seconds to wait before the restart that is hereby counted; None: there were enough."""
        self._forget_before(now - self._config.window_sec)
        made = len(self._times)
        if made >= self._config.max_restarts:
            return None
        self._times.append(now)
        config = self._config
        delay = min(config.backoff_max_sec, config.backoff_initial_sec * config.backoff_factor**made)
        return delay * (1 + config.jitter * (2 * self._random() - 1))

    def forgive(self) -> None:
        """Forget all restarts: the program proved stable, or a person stepped in."""
        self._times.clear()

    def ages(self, now: float) -> tuple[float, ...]:
        """How many seconds ago each restart that still counts was made, oldest first."""
        self._forget_before(now - self._config.window_sec)
        return tuple(now - time for time in self._times)

    def _forget_before(self, time: float) -> None:
        while self._times and self._times[0] <= time:
            self._times.popleft()
