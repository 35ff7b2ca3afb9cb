"""What happens next to one program: a state machine that is told facts and answers with actions.

It starts, signals and waits for nothing itself. Methods take the monotonic time and return what is to be done
now, in order; whoever drives it does that and reports what came of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from cdc.alert import AlertKind
from cdc.config.programs import ProgramConfig
from cdc.supervisor import conditions
from cdc.supervisor.restart import Restarts
from cdc.supervisor.states import HAS_PROCESS, State, moved

logger = logging.getLogger(__name__)

KILL_AGAIN_SEC = 1.0
"""A tree that forks while it is killed is killed again after this long."""


class Do(Enum):
    CHECK_FILE = "check the file"
    SPAWN = "spawn"
    SIGNAL = "signal"
    """Send the stop signal; the grace period runs."""
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Raise:
    kind: AlertKind
    message: str


@dataclass(frozen=True, slots=True)
class Clear:
    kind: AlertKind


Actions = tuple[Do | Raise | Clear, ...]


class FileVerdict(Enum):
    """What the check of a crashed program's files came to."""

    SOUND = "sound"
    RESTORED = "restored"
    CORRUPT = "corrupt"
    UNKNOWN = "unknown"


class _Then(Enum):
    """What follows once the last process of the tree is gone."""

    STOP = "stop"
    START = "start"
    EXIT = "exit"
    RETRY = "retry"


class Machine:
    """One program's state. Not thread safe: one loop drives it.

    Args:
        random: uniform in [0, 1), for the jitter of delays.
        restart_ages: seconds ago of restarts that an earlier supervisor made.
    """

    def __init__(
        self,
        name: str,
        config: ProgramConfig,
        random: Callable[[], float],
        now: float,
        restart_ages: Iterable[float] = (),
    ) -> None:
        self.name = name
        self.config = config
        self.state = State.STOPPED
        self.since = now
        self.reason = ""
        """Why it is in this state, for a person."""
        self.held = False
        """FATAL in a way that must outlast the supervisor: its files are damaged."""
        self.unclean = False
        """It did not end cleanly, and its files were not checked since."""
        self.restarts = Restarts(config.restart, random, now, restart_ages)
        self._until = now
        self._then = _Then.STOP
        self._failures = 0
        self._failing_since = now

    def __repr__(self) -> str:
        return f"Machine({self.name}: {self.state.value}, {self.reason!r})"

    # What a person asks for, or the supervisor's own start and end.

    def start(self, now: float) -> Actions:
        """Make it run; past restarts and a FATAL are forgiven."""
        if self.state is State.STOPPING:
            self._then = _Then.START
        elif self.state not in HAS_PROCESS | {State.WAITING, State.CHECKING}:
            self.restarts.forgive()
            self.held = False
            self._move(State.WAITING, now)
            return tuple(map(Clear, (conditions.FATAL, conditions.FILE_CORRUPT, conditions.FILE_UNCHECKED)))
        return ()

    def stop(self, now: float) -> Actions:
        """Make it stop, and stay stopped."""
        if self.state in (State.STARTING, State.RUNNING):
            return self._end(_Then.STOP, now, "stop was asked for")
        if self.state is State.STOPPING:
            self._then = _Then.STOP
        elif self.state is not State.STOPPED:
            self._move(State.STOPPED, now, "stop was asked for")
        return ()

    def restart(self, now: float) -> Actions:
        """Stop it gracefully and start it again; not counted against it."""
        if self.state in (State.STARTING, State.RUNNING):
            return self._end(_Then.START, now, "restart was asked for")
        return self.start(now)

    def hurry(self) -> Actions:
        """End the grace period now."""
        return (Do.KILL,) if self.state is State.STOPPING else ()

    def resume(self, now: float, state: State, reason: str, *, held: bool = False) -> Actions:
        """Take over from an earlier supervisor a program that is at rest."""
        self.held = held
        if state is not State.STOPPED:
            self._move(state, now, reason)
        return (Raise(conditions.FATAL, reason),) if state is State.FATAL else ()

    def adopt(self, now: float) -> None:
        """Take over from an earlier supervisor a program whose process runs."""
        self._failures = 0
        self._move(State.RUNNING, now, "adopted")

    # What came of the actions.

    def allowed(self, now: float) -> Actions:
        """What it waited for is there."""
        if self.state is not State.WAITING:
            return ()
        if self.unclean and self.config.before_restart is not None:
            self._move(State.CHECKING, now, "it did not end cleanly the last time")
            return (Do.CHECK_FILE,)
        return (Do.SPAWN,)

    def checked(self, now: float, verdict: FileVerdict, detail: str) -> Actions:
        """Its files were checked."""
        self.unclean = False
        if self.state is not State.CHECKING:
            return ()
        if verdict is FileVerdict.SOUND:
            return (Do.SPAWN,)
        if verdict is FileVerdict.RESTORED:
            return (Raise(conditions.FILE_RESTORED, detail), Do.SPAWN)
        self.held = verdict is FileVerdict.CORRUPT
        self._move(State.FATAL, now, detail)
        kind = conditions.FILE_CORRUPT if self.held else conditions.FILE_UNCHECKED
        return (Raise(kind, detail),)

    def spawned(self, now: float) -> None:
        """Its process was started."""
        self._failures = 0
        self._move(State.STARTING, now)

    def not_spawned(self, now: float, problem: str) -> Actions:
        """Its process could not be started."""
        return self._retry(now, problem)

    # What is seen of its processes.

    def ended(self, now: float, code: int | None) -> Actions:
        """Its main process ended; None: nobody knows the exit code. Others of its tree may remain."""
        expected = code in self.config.restart.expected_exit_codes
        self.unclean = self.unclean or not expected
        if self.state is State.STOPPING:
            return ()
        again = not expected or self.config.restart.when == "always"
        return self._end(_Then.RETRY if again else _Then.EXIT, now, describe_exit(code))

    def gone(self, now: float) -> Actions:
        """No process of its tree remains."""
        if self.state is not State.STOPPING:
            return ()
        if self._then is _Then.RETRY:
            return self._retry(now, self.reason)
        after = {_Then.STOP: State.STOPPED, _Then.START: State.WAITING, _Then.EXIT: State.EXITED}
        self._move(after[self._then], now, self.reason)
        return (Clear(conditions.UNHEALTHY), Clear(conditions.MEMORY))

    def health(self, now: float, problem: str | None) -> Actions:
        """A round of health checks is over; None: all passed."""
        if problem is None:
            self._failures = 0
            if self.state is State.STARTING:
                self._move(State.RUNNING, now)
            return (Clear(conditions.UNHEALTHY),) if self.state is State.RUNNING else ()
        if self.state is not State.RUNNING:
            self.reason = problem if self.state is State.STARTING else self.reason
            return ()
        self._failing_since = now if self._failures == 0 else self._failing_since
        self._failures += 1
        self.reason = problem
        actions: Actions = ()
        if self._failures >= self.config.health.alert_after_failures:
            actions = (Raise(conditions.UNHEALTHY, f"{self._failures} failures in a row: {problem}"),)
        if now - self._failing_since >= self.config.health.unresponsive_sec:
            actions += self._end(_Then.RETRY, now, f"unresponsive: {problem}")
        return actions

    def breach(self, now: float, problem: str) -> Actions:
        """It uses more than it may."""
        if self.state not in (State.STARTING, State.RUNNING):
            return ()
        return (Raise(conditions.MEMORY, problem), *self._end(_Then.RETRY, now, problem))

    def tick(self, now: float) -> Actions:
        """Time has passed."""
        match self.state:
            case State.STOPPING if now >= self._until:
                self._until = now + KILL_AGAIN_SEC
                return (Do.KILL,)
            case State.BACKOFF if now >= self._until:
                self._move(State.WAITING, now, self.reason)
            case State.STARTING if now - self.since >= self.config.health.start_timeout_sec:
                return self._end(_Then.RETRY, now, f"not healthy in time: {self.reason or 'no check ended'}")
            case State.RUNNING if self._failures == 0 and now - self.since >= self.config.restart.stable_sec:
                self.restarts.forgive()
                return (Clear(conditions.MEMORY), Clear(conditions.FILE_RESTORED))
        return ()

    def next_start_in(self, now: float) -> float | None:
        """Seconds until the next start, in BACKOFF."""
        return max(0.0, self._until - now) if self.state is State.BACKOFF else None

    @property
    def to_be_stopped(self) -> bool:
        """It is being stopped, and not to be started again."""
        return self.state is State.STOPPING and self._then is _Then.STOP

    def _end(self, then: _Then, now: float, reason: str) -> Actions:
        self._then = then
        self._until = now + self.config.grace_sec
        self._move(State.STOPPING, now, reason)
        return (Do.SIGNAL,)

    def _retry(self, now: float, reason: str) -> Actions:
        config = self.config.restart
        if config.when == "never":
            return self._fatal(now, f"{reason}; it is never restarted")
        delay = self.restarts.next_delay(now)
        if delay is None:
            limit = f"{config.max_restarts} restarts within {config.window_sec:g} s"
            return self._fatal(now, f"{reason}, after {limit}")
        self._until = now + delay
        self._move(State.BACKOFF, now, reason)
        return ()

    def _fatal(self, now: float, reason: str) -> Actions:
        self._move(State.FATAL, now, reason)
        return (Raise(conditions.FATAL, reason), Clear(conditions.UNHEALTHY))

    def _move(self, state: State, now: float, reason: str = "") -> None:
        self.state = moved(self.state, state)
        self.since = now
        self.reason = reason
        logger.info("%s: %s%s", self.name, state.value, f": {reason}" if reason else "")


def describe_exit(code: int | None) -> str:
    """How a process ended, in words; negative codes are signals, as subprocess has it."""
    if code is None:
        return "it ended; its exit code is unknown"
    if code < 0:
        return f"it was ended by signal {-code}"
    return f"it ended with exit code {code}"
