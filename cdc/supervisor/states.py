"""Which states a supervised program can be in, and which moves between them are legal."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """What a program is doing, as a person is told it."""

    STOPPED = "stopped"
    """Not running, and not meant to."""
    WAITING = "waiting"
    """Meant to run; waits for the programs it comes after."""
    CHECKING = "checking"
    """It did not end cleanly the last time; its files are being checked before it may start."""
    STARTING = "starting"
    """Its process is up; its health checks have not passed yet."""
    RUNNING = "running"
    STOPPING = "stopping"
    """Its processes were asked to end, or what its main process left behind is being cleared away."""
    BACKOFF = "backoff"
    """It failed and will be started again after a delay."""
    EXITED = "exited"
    """It ended as it may, and its policy does not start it again."""
    FATAL = "fatal"
    """It will not be started again until a person says so."""


class IllegalTransition(AssertionError):
    """The supervisor moved a program in a way that makes no sense: a defect of the supervisor."""


_S = State
LEGAL: dict[State, frozenset[State]] = {
    _S.STOPPED: frozenset({_S.WAITING, _S.RUNNING, _S.EXITED, _S.FATAL}),  # the last three: taken over
    _S.WAITING: frozenset({_S.CHECKING, _S.STARTING, _S.BACKOFF, _S.FATAL, _S.STOPPED}),
    _S.CHECKING: frozenset({_S.STARTING, _S.BACKOFF, _S.FATAL, _S.STOPPED}),
    _S.STARTING: frozenset({_S.RUNNING, _S.STOPPING}),
    _S.RUNNING: frozenset({_S.STOPPING}),
    _S.STOPPING: frozenset({_S.STOPPED, _S.WAITING, _S.BACKOFF, _S.EXITED, _S.FATAL}),
    _S.BACKOFF: frozenset({_S.WAITING, _S.STOPPED}),
    _S.EXITED: frozenset({_S.WAITING, _S.STOPPED}),
    _S.FATAL: frozenset({_S.WAITING, _S.STOPPED}),
}

HAS_PROCESS = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
AT_REST = frozenset({State.STOPPED, State.EXITED, State.FATAL})
"""States that only a person leaves."""


def moved(old: State, new: State) -> State:
    """`new`, if a program may move there from `old`.

    Raises:
        IllegalTransition: if it may not.
    """
    if new not in LEGAL[old]:
        raise IllegalTransition(f"{old.value} to {new.value}")
    return new
