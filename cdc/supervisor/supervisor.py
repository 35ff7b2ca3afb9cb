"""Runs all programs: who may start when, who stops first, what is recorded, and what a person is told."""

from __future__ import annotations

import json
import logging
import os
import random as random_module
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from cdc.alert import Alerts
from cdc.alert_delivery import AlertDelivery
from cdc.clock import Clock, SystemClock
from cdc.config.programs import ProgramConfig, SupervisorConfig
from cdc.errors import CdcError, ExitCode, StateError
from cdc.private import private_directory
from cdc.supervisor import conditions
from cdc.supervisor.control import Answer, ControlServer, Request
from cdc.supervisor.metrics import SupervisorMetrics
from cdc.supervisor.program import Program, Surroundings
from cdc.supervisor.record import Entry, Record, replace_file
from cdc.supervisor.states import HAS_PROCESS, State

if sys.platform == "linux":
    from cdc.supervisor import linux as kernel
else:
    from cdc.supervisor import elsewhere as kernel

logger = logging.getLogger(__name__)

TICK_SEC = 0.1
"""How soon the end of a program is noticed."""
STATUS_SEC = 1.0
LAUNCHING = frozenset({State.WAITING, State.CHECKING, State.STARTING})


class SupervisorHeld(StateError):
    """Another supervisor runs on this directory."""

    exit_code = ExitCode.HELD


class Notify(Protocol):
    """The service manager, told how things stand. `cdc.service` has the real one."""

    def ready(self) -> None: ...
    def alive(self) -> None: ...
    def stopping(self) -> None: ...


class NobodyToNotify:
    def ready(self) -> None: ...
    def alive(self) -> None: ...
    def stopping(self) -> None: ...


class Supervisor:
    """All programs of a configuration, until `stop` is called.

    Args:
        directory: for the lock, the record, the control file, the status and the programs' logs.
        random: uniform in [0, 1), for the jitter of restarts.
    """

    def __init__(
        self,
        programs: Mapping[str, ProgramConfig],
        config: SupervisorConfig,
        directory: Path,
        *,
        config_path: Path | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
        notify: Notify | None = None,
    ) -> None:
        self._config = config
        self._configs = programs
        self._directory = directory
        self._config_path = config_path
        self._clock = clock or SystemClock()
        self._random = random
        self._notify = notify or NobodyToNotify()
        self._wake = threading.Event()
        self._stops_asked = 0
        self._hurried = False
        self._ranks = ranks(programs)
        self._stop_ranks = stop_ranks(programs)
        self._programs: dict[str, Program] = {}
        self._strangers: dict[str, Entry] = {}
        self._record = Record(directory / "programs.json")
        self._next_status = 0.0

    def __repr__(self) -> str:
        return f"Supervisor({list(self._programs.values())})"

    def stop(self) -> None:
        """Stop all programs and return from `run`; called again: hurry. Safe in a signal handler."""
        self._stops_asked += 1

    def run(self) -> None:
        """Supervise until stopped.

        Raises:
            SupervisorHeld: another supervisor has this directory.
            StateError: the record cannot be read or stored.
        """
        try:
            private_directory(self._directory)
        except OSError as error:
            problem = error.strerror or type(error).__name__
            remedy = "Name another as [supervisor] directory, or mend this one"
            raise StateError("supervise in", self._directory, problem, remedy) from None
        lock = FileLock(self._directory / "supervisor.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise SupervisorHeld(
                "supervise in", self._directory, "another supervisor does", "Use 'cdc ctl' to talk to it."
            ) from None
        with ExitStack() as stack:
            stack.callback(lock.release)
            kernel.adopt_orphans()
            self._metrics = stack.enter_context(SupervisorMetrics(self._config.metrics_port))
            alerts = self._config.alerts
            webhook = alerts.webhook.get_secret_value() if alerts.webhook else None
            delivery = stack.enter_context(
                AlertDelivery(alerts.command or (), webhook, timeout_seconds=alerts.timeout_sec)
            )
            self._alerts = Alerts(self._clock, handlers=(delivery.deliver,), gauge=self._metrics.alert)
            self._take_over()
            self._control = stack.enter_context(ControlServer(self._directory))
            self._notify.ready()
            self._loop()
            self._notify.stopping()
            self._shut_down()

    def _take_over(self) -> None:
        entries = self._record.load()
        around = Surroundings(
            self._clock, self._random, self._alerts, self._directory, self._config_path, self._persist
        )
        self._strangers = {
            name: entry for name, entry in entries.items() if name not in self._configs and entry.pid
        }
        for name in self._strangers:
            logger.warning("%s is no longer configured; its process is left alone", name)
        for name in sorted(self._configs, key=self._ranks.__getitem__):
            self._programs[name] = Program(name, self._configs[name], around, entries.get(name))

    def _loop(self) -> None:
        while not self._stops_asked:
            self._tick(may_start=True)

    def _shut_down(self) -> None:
        """Stop the programs in reverse order, or as they say; each rank once the one before it is gone."""
        if self._config.on_exit == "detach":
            self._persist()
            return
        deadline = self._clock.monotonic() + self._config.shutdown_sec
        logger.info("stopping: %s", ", ".join(sorted(self._programs, key=self._stop_ranks.__getitem__)))
        while running := [program for program in self._programs.values() if not _done(program)]:
            hurry = self._stops_asked > 1 or self._clock.monotonic() >= deadline
            first = min(self._stop_ranks[program.name] for program in running)
            for program in running:
                if hurry or self._stop_ranks[program.name] == first:
                    program.stop()
            if hurry and not self._hurried:
                self._hurried = True
                logger.warning("hurrying: %s", ", ".join(program.name for program in running))
            if self._hurried:
                for program in running:
                    program.hurry()
            self._tick(may_start=False)
        remaining = {name: program.last_entry() for name, program in self._programs.items()}
        self._record.save({name: entry for name, entry in remaining.items() if entry} | self._strangers)
        self._write_status()

    def _tick(self, *, may_start: bool) -> None:
        self._control.serve(self._handle)
        may_start = self._recorded() and may_start
        for program in self._programs.values():
            program.step(may_start and not self._blocked(program))
        self._recorded()
        self._alerts.tick()
        self._notify.alive()
        if self._clock.monotonic() >= self._next_status:
            self._next_status = self._clock.monotonic() + STATUS_SEC
            self._metrics.update(self._programs.values())
            self._write_status()
        self._clock.wait(self._wake, TICK_SEC)

    def _blocked(self, program: Program) -> bool:
        """Whether `program` must wait: for those it comes after, and for the first start of lower orders."""
        if any(self._programs[name].state is not State.RUNNING for name in program.config.after):
            return True
        return any(
            other.config.order < program.config.order and not other.launched and other.state in LAUNCHING
            for other in self._programs.values()
        )

    def _recorded(self) -> bool:
        """Store the record; False: it could not be. Supervision goes on then, but nothing may be started."""
        try:
            self._persist()
        except StateError as error:
            self._alerts.raise_alert(conditions.RECORD, str(self._directory), error.problem)
            return False
        self._alerts.clear(conditions.RECORD, str(self._directory))
        return True

    def _persist(self) -> None:
        entries = {name: program.entry() for name, program in self._programs.items()}
        self._record.save(entries | self._strangers)

    def _handle(self, request: Request) -> Answer:
        """One request of `cdc ctl`.

        Raises:
            CdcError: no such command or program, or it cannot be done now.
        """
        name = request.get("name")
        match request.get("command"):
            case "status":
                if name is not None:
                    self._program(name)
                return self.status()
            case "start" if not self._stops_asked:
                self._program(name).start()
            case "stop":
                self._program(name).stop()
            case "restart" if not self._stops_asked:
                self._program(name).restart()
            case "reload":
                self._program(name).reload()
            case command:
                why = "the supervisor is stopping" if self._stops_asked else "there is no such command"
                raise CdcError(str(command), str(name), why, "Run 'cdc ctl --help' for what there is.")
        self._persist()  # what a person was told is done must hold for the next supervisor too
        return {}

    def _program(self, name: object) -> Program:
        program = self._programs.get(str(name))
        if program is None:
            known = ", ".join(self._programs) or "none"
            raise CdcError("find the program", str(name), "it is not configured", f"There are: {known}.")
        return program

    def status(self) -> dict[str, object]:
        """How everything stands, as JSON values; times are wall-clock seconds."""
        return {
            "pid": os.getpid(),
            "time": self._clock.wall(),
            "stopping": self._stops_asked > 0,
            "programs": {name: program.status() for name, program in self._programs.items()},
            "alerts": [alert.as_json() for alert in self._alerts.standing()],
        }

    def _write_status(self) -> None:
        try:
            replace_file(self._directory / "status.json", json.dumps(self.status(), indent=1).encode())
        except OSError as error:  # a full disk must not end the supervision
            logger.error("the status file could not be written: %s", error)


def ranks(programs: Mapping[str, ProgramConfig]) -> dict[str, int]:
    """The place of each program in the order of starting: by `order`, and behind all it comes `after`."""
    orders = sorted({program.order for program in programs.values()})
    found: dict[str, int] = {}

    def rank(name: str) -> int:
        if name not in found:
            program = programs[name]
            found[name] = max([orders.index(program.order), *(rank(other) + 1 for other in program.after)])
        return found[name]

    for name in programs:
        rank(name)
    return found


def stop_ranks(programs: Mapping[str, ProgramConfig]) -> dict[str, int]:
    """The place of each program in the order of stopping: that of starting reversed, but behind all it says
    to stop after."""
    starting = ranks(programs)
    last = max(starting.values(), default=0)
    found: dict[str, int] = {}

    def rank(name: str) -> int:
        if name not in found:
            behind = [rank(other) + 1 for other in programs[name].stop_after]
            found[name] = max([last - starting[name], *behind])
        return found[name]

    for name in programs:
        rank(name)
    return found


def _done(program: Program) -> bool:
    return program.state not in HAS_PROCESS | LAUNCHING | {State.BACKOFF}
