"""Whether a program does its work: its checks, each run by a thread of its own and bounded by a time.

A check that hangs is a failure; it is not started a second time while its thread is still away.
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never
from urllib.parse import urlsplit

from cdc.clock import Clock
from cdc.config.programs import (
    Check,
    CommandCheck,
    HealthConfig,
    HeartbeatCheck,
    HttpCheck,
    ProgressCheck,
    TcpCheck,
)
from cdc.supervisor import command

STARTING_SEC = 0.5
"""How often a program is asked whether it has started."""

Stamp = tuple[int, int]
"""Size and time of a file, as they were at one moment."""

Probe = Callable[[], str | None]
"""Runs a check once, as long as it may take; returns the problem, or None. It does not raise."""


@dataclass
class _Running:
    began: float
    done: threading.Event
    problem: str | None = None


class BoundedCheck:
    """One check. `begin` starts it in a thread, `result` says how it went or that it takes too long."""

    def __init__(self, name: str, probe: Probe, timeout_seconds: float, clock: Clock) -> None:
        self.name = name
        self._probe = probe
        self._timeout = timeout_seconds
        self._clock = clock
        self._running: _Running | None = None

    def begin(self) -> None:
        """Start the check, unless it still runs."""
        if self._running is not None and not self._running.done.is_set():
            return
        running = self._running = _Running(self._clock.monotonic(), threading.Event())

        def run() -> None:
            running.problem = self._probe()
            running.done.set()

        threading.Thread(target=run, name=f"check-{self.name}", daemon=True).start()

    def finished(self) -> bool:
        """Whether `result` is final: the check ended, or took too long."""
        running = self._running
        if running is None:
            return False
        return running.done.is_set() or self._clock.monotonic() - running.began >= self._timeout

    def result(self) -> str | None:
        """The problem; None: the check passed."""
        running = self._running
        if running is None or not running.done.is_set():
            return f"{self.name}: no answer within {self._timeout:g} s"
        return None if running.problem is None else f"{self.name}: {running.problem}"


class ProgramHealth:
    """The health of one start of a program: a round of all checks every `interval_sec`.

    Args:
        trouble: why the main process cannot be at work by its state alone; asked in every round.
        environment: for command checks.
        adopted: the program was at work before; what it left in its files is its own, not an earlier start's.
    """

    def __init__(
        self,
        config: HealthConfig,
        clock: Clock,
        trouble: Callable[[], str | None],
        *,
        environment: dict[str, str],
        config_path: Path | None = None,
        adopted: bool = False,
    ) -> None:
        self._config = config
        self._clock = clock
        self._trouble = trouble
        self._next = clock.monotonic()
        self._round = False
        self._checks = [
            BoundedCheck(
                check.kind,
                probe_of(check, clock, environment, config_path, adopted=adopted),
                check.timeout_sec,
                clock,
            )
            for check in config.checks
        ]

    def poll(self, *, starting: bool = False) -> tuple[bool, str | None]:
        """(True, problem or None) when a round has just ended; (False, None) otherwise.

        A program that is `starting` is asked more often: others wait for it.
        """
        now = self._clock.monotonic()
        if not self._round:
            if now < self._next:
                return False, None
            interval = self._config.interval_sec
            self._next = now + (min(interval, STARTING_SEC) if starting else interval)
            self._round = True
            for check in self._checks:
                check.begin()
        if not all(check.finished() for check in self._checks):
            return False, None
        self._round = False
        problems = [self._trouble(), *(check.result() for check in self._checks)]
        return True, "; ".join(problem for problem in problems if problem) or None


def probe_of(
    check: Check,
    clock: Clock,
    environment: dict[str, str],
    config_path: Path | None = None,
    *,
    adopted: bool = False,
) -> Probe:
    """The probe that runs `check` on a program that starts now, or was `adopted`."""
    match check:
        case HeartbeatCheck():
            left = None if adopted else _stamp(check.path)
            return lambda: heartbeat(check, clock.wall(), left)
        case ProgressCheck():
            return ProgressWatch(check, clock)
        case TcpCheck():
            return lambda: tcp(check)
        case HttpCheck():
            return lambda: http_get(check)
        case CommandCheck():
            arguments = command.expand(check.command, config_path)
            return lambda: run_command(arguments, check.timeout_sec, environment)
        case _:
            assert_never(check)


def heartbeat(check: HeartbeatCheck, now: float, left: Stamp | None = None) -> str | None:
    """The file's time is recent. One in the future counts as old: it would hide a program that hangs.

    `left` is what an earlier start left behind: it says nothing of this one.
    """
    try:
        age = now - check.path.stat().st_mtime
    except OSError as error:
        return f"{check.path}: {error.strerror}"
    if left is not None and _stamp(check.path) == left:
        return f"{check.path} was not touched since the start"
    if age < -check.max_age_sec:
        return f"{check.path} is {-age:.1f} s in the future"
    return f"{check.path} is {age:.1f} s old" if age > check.max_age_sec else None


class ProgressWatch:
    """At least one of the files changed lately: since the last look, whatever their times say."""

    def __init__(self, check: ProgressCheck, clock: Clock) -> None:
        self._check = check
        self._clock = clock
        self._seen: object = None
        self._changed_at = clock.monotonic()

    def __call__(self) -> str | None:
        now = self._clock.monotonic()
        seen = [_stamp(path) for path in self._check.paths]
        if seen != self._seen:
            self._seen, self._changed_at = seen, now
        idle = now - self._changed_at
        return f"nothing was written for {idle:.0f} s" if idle > self._check.max_idle_sec else None


def _stamp(path: Path) -> Stamp | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def tcp(check: TcpCheck) -> str | None:
    try:
        socket.create_connection((check.host, check.port), check.timeout_sec).close()
    except OSError as error:
        return f"{check.host}:{check.port}: {error.strerror or error}"
    return None


def http_get(check: HttpCheck) -> str | None:
    """GET without redirects. The timeout bounds each step; whoever runs this bounds them together."""
    parts = urlsplit(str(check.url))
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=check.timeout_sec)
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return None if status == check.status else f"status {status} instead of {check.status}"


def run_command(arguments: tuple[str, ...], timeout: float, environment: dict[str, str]) -> str | None:
    done = command.run(arguments, timeout, environment=environment)
    if done.code is None:
        return done.output
    return None if done.code == 0 else f"exit code {done.code}: {done.output[-200:]}"
