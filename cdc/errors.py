"""What every error of this project says: what was being done, to what, why it failed, and the remedy.

A `CdcError` never carries a secret: whoever raises it passes text that may stand in a log.
"""

from __future__ import annotations

from enum import Enum

from cdc.visible import visible


class Meaning(Enum):
    """What an error asks of the code that drives the work. Anything not recognised is STOP."""

    RETRY = "retry"
    """The same work may succeed later, unchanged: a dead server, a time-out, too many parts."""
    POISON = "poison"
    """Some rows of this batch will never be accepted; the others may be."""
    STOP = "stop"
    """Nothing will change until a person does something; the table is halted, nothing is skipped."""


class Relief(Enum):
    """What a target that is asked too much wants instead, beside a later attempt."""

    FEWER = "fewer"
    """Fewer inserts: each of them costs, however small it is."""
    SMALLER = "smaller"
    """Fewer and smaller ones: this one does not fit its memory."""


class ExitCode(Enum):
    """The exit codes of every command, documented in the README."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIG = 3
    SOURCE = 4
    TARGET = 5
    STATE = 6
    DIFFERENT = 7
    HELD = 8


class CdcError(Exception):
    """An error with its facts as attributes, and a message that tells a person what to do.

    Args:
        operation: what was being done, as a verb phrase: "open the source".
        subject: the one thing it was done to: a path, a table, an endpoint without credentials.
        problem: what went wrong, in one clause.
        remedy: what the reader can do about it, as an imperative.
    """

    meaning: Meaning = Meaning.STOP
    exit_code: ExitCode = ExitCode.FAILED

    def __init__(
        self,
        operation: str,
        subject: object,
        problem: str,
        remedy: str,
        *,
        meaning: Meaning | None = None,
    ) -> None:
        shown = visible(str(subject))
        problem, remedy = visible(problem), visible(remedy)
        super().__init__(operation, shown, problem, remedy)
        self.operation = operation
        self.subject = shown
        self.problem = problem
        self.remedy = remedy
        if meaning is not None:
            self.meaning = meaning

    def __str__(self) -> str:
        return f"cannot {self.operation} {self.subject}: {self.problem}. {self.remedy}"


class ConfigError(CdcError):
    """A configuration file, environment variable or command line option is not usable."""

    exit_code = ExitCode.CONFIG


class SourceError(CdcError):
    """The DuckDB file cannot be read as it is."""

    exit_code = ExitCode.SOURCE


class SnapshotSuperseded(SourceError):
    """A checkpoint overtook this snapshot; what it read is discarded, a new snapshot may be taken at once."""

    meaning = Meaning.RETRY


class SourceReplaced(SourceError):
    """The file at the source's path is another database: what is known of the one before is not of it."""

    meaning = Meaning.RETRY


class HistoryBroken(SourceError):
    """What the file holds is not the continuation of what was read of a table, and only reading it from its
    beginning shows what it is now."""

    meaning = Meaning.RETRY


_NOT_ALLOWED = (291, 497)
"""ClickHouse's DATABASE_ACCESS_DENIED and ACCESS_DENIED."""


class TargetError(CdcError):
    """ClickHouse refused, failed or did not answer; `meaning` says what that asks for."""

    exit_code = ExitCode.TARGET

    def __init__(
        self,
        operation: str,
        subject: object,
        problem: str,
        remedy: str,
        *,
        meaning: Meaning | None = None,
        code: int | None = None,
        relief: Relief | None = None,
    ) -> None:
        super().__init__(operation, subject, problem, remedy, meaning=meaning)
        self.code = code
        """ClickHouse's error code, where the server gave one."""
        self.relief = relief

    @property
    def not_allowed(self) -> bool:
        """Whether the user has no right to what was asked."""
        return self.code in _NOT_ALLOWED


class StateError(CdcError):
    """The state store (watermarks, counters, failed rows) cannot be used as it is."""

    exit_code = ExitCode.STATE


class LeaseHeld(StateError):
    """Another replicator is active on this source."""

    exit_code = ExitCode.HELD
