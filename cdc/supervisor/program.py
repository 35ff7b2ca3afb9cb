"""One supervised program: its state machine, with the processes, checks, limits and files behind it."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from cdc.alert import Alerts
from cdc.clock import Clock
from cdc.config.programs import ProgramConfig
from cdc.errors import CdcError, StateError
from cdc.supervisor import command, conditions, filecheck, process
from cdc.supervisor.health import ProgramHealth
from cdc.supervisor.limits import Ceiling, apply_share, memory_breach, short_of_space
from cdc.supervisor.logs import RotatedLog
from cdc.supervisor.machine import Actions, Clear, Do, FileVerdict, Machine, Raise
from cdc.supervisor.process import Identity, SpawnError, Tree
from cdc.supervisor.record import Entry
from cdc.supervisor.states import AT_REST, State

logger = logging.getLogger(__name__)

WATCH_SEC = 1.0
"""How often memory, log size and disk space are looked at."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every program of a supervisor shares. `persist` stores the record durably, or raises."""

    clock: Clock
    random: Callable[[], float]
    alerts: Alerts
    directory: Path
    config_path: Path | None
    persist: Callable[[], None]


class Program:
    """Drives one `Machine`. Not thread safe, except that a file check runs in a thread of its own."""

    def __init__(self, name: str, config: ProgramConfig, around: Surroundings, entry: Entry | None) -> None:
        now, wall = around.clock.monotonic(), around.clock.wall()
        self.name = name
        self.config = config
        self._around = around
        ages = [wall - time for time in entry.restarts] if entry else []
        self.machine = Machine(name, config, around.random, now, ages)
        self.log = RotatedLog(
            config.log.path or around.directory / f"{name}.log", config.log.max_mb, config.log.keep
        )
        self.launched = False
        """Whether it ever ran, or came to rest, since this supervisor began: others may go on."""
        self.memory = 0
        self.restarts_total = 0
        self._mark: str | None = None
        self._tree: Tree | None = None
        self._told_of_end = False
        self._health: ProgramHealth | None = None
        self._ceiling: Ceiling | None = None
        self._checks: list[tuple[str, FileVerdict, str]] = []
        self._next_watch = now
        self._take_over(entry)

    def __repr__(self) -> str:
        return f"Program({self.machine!r}, {self._tree!r})"

    @property
    def state(self) -> State:
        return self.machine.state

    @property
    def pid(self) -> int | None:
        return self._tree.identity.pid if self._tree else None

    def entry(self) -> Entry:
        """What a later supervisor must know of it."""
        now, wall = self._around.clock.monotonic(), self._around.clock.wall()
        identity = self._tree.identity if self._tree else None
        return Entry(
            state=self.state,
            reason=self.machine.reason if self.state in AT_REST else "",
            mark=self._mark,
            pid=identity.pid if identity else None,
            start=identity.start if identity else None,
            held=self.machine.held,
            unclean=self.machine.unclean,
            stop=self.machine.to_be_stopped,
            restarts=tuple(round(wall - age) for age in self.machine.restarts.ages(now)),
        )

    def last_entry(self) -> Entry | None:
        """What a later supervisor must know after this one stopped it in good order; None: nothing."""
        if self.machine.held:
            return Entry(State.FATAL, self.machine.reason, held=True)
        next_state = State.WAITING if self.config.autostart else State.STOPPED
        return Entry(next_state, unclean=True) if self.machine.unclean else None

    # What a person, or the end of the supervisor, asks for.

    def start(self) -> None:
        self._do(self.machine.start(self._now()))

    def stop(self) -> None:
        if self.state is State.CHECKING and self._mark is not None:
            process.kill_marked(self._mark)
            self._mark = None
        self._do(self.machine.stop(self._now()))

    def restart(self) -> None:
        self._do(self.machine.restart(self._now()))

    def hurry(self) -> None:
        self._do(self.machine.hurry())

    def reload(self) -> None:
        """Send the reload signal.

        Raises:
            CdcError: it has no such signal, or does not run.
        """
        signal = self.config.reload_signal
        if signal is None or not process.SIGNALS:
            why = "it has no reload_signal" if process.SIGNALS else "Windows has no signals"
            raise CdcError("reload", self.name, why, f"Run 'cdc ctl restart {self.name}'.")
        if self._tree is None or self.state not in (State.STARTING, State.RUNNING):
            raise CdcError(
                "reload", self.name, f"it is {self.state.value}", f"Run 'cdc ctl start {self.name}'."
            )
        self._tree.send(signal)

    # The loop.

    def step(self, may_start: bool) -> None:
        """Look at everything once, and do what follows from it. Does not block for long."""
        now = self._now()
        while self._checks:
            mark, verdict, detail = self._checks.pop()
            if mark == self._mark:  # else it was overtaken by a stop
                logger.info("%s: files %s: %s", self.name, verdict.value, detail)
                self._do(self.machine.checked(now, verdict, detail))
        self._look_at_processes(now)
        if self._health is not None and self.state in (State.STARTING, State.RUNNING):
            ended, problem = self._health.poll(starting=self.state is State.STARTING)
            if ended:
                self._do(self.machine.health(now, problem))
        if now >= self._next_watch:
            self._next_watch = now + WATCH_SEC
            self._watch(now)
        self._do(self.machine.tick(now))
        if may_start:
            self._do(self.machine.allowed(now))
        self.launched = self.launched or self.state in AT_REST | {State.RUNNING, State.BACKOFF}

    def status(self) -> dict[str, object]:
        """What a person is told, as JSON values."""
        now, wall = self._now(), self._around.clock.wall()
        return {
            "state": self.state.value,
            "reason": self.machine.reason,
            "pid": self.pid,
            "since": wall - (now - self.machine.since),
            "restarts": len(self.machine.restarts.ages(now)),
            "next_start_seconds": self.machine.next_start_in(now),
            "memory_bytes": self.memory,
            "memory_ceiling": self._ceiling.missing or "enforced" if self._ceiling else None,
            "log": str(self.log.path),
        }

    def _take_over(self, entry: Entry | None) -> None:
        now = self._now()
        if entry is None:
            if self.config.autostart:
                self.start()
            return
        self.machine.unclean = entry.unclean
        self._mark = entry.mark
        identity = None
        if entry.pid is not None and entry.start is not None and entry.mark is not None:
            identity = Identity(entry.pid, entry.start, entry.mark)
        elif entry.mark is not None and entry.state is State.CHECKING:
            process.kill_marked(entry.mark)
        elif entry.mark is not None and entry.state not in AT_REST:
            identity = process.find_marked(entry.mark)
        if identity is not None:
            logger.info("%s: adopted as process %d", self.name, identity.pid)
            self._tree = Tree(identity)
            self.machine.adopt(now)
            self._watch_health(adopted=True)
            if entry.stop:
                self.stop()
        elif entry.state in AT_REST:
            self._do(self.machine.resume(now, entry.state, entry.reason, held=entry.held))
        else:
            self._do(self.machine.resume(now, State.WAITING, ""))

    def _look_at_processes(self, now: float) -> None:
        tree = self._tree
        if tree is None:
            return
        ended = tree.poll()
        if ended is not None and self.state in (State.STARTING, State.RUNNING):
            oom = self._ceiling is not None and self._ceiling.killed()
            if oom:
                self._do((Raise(conditions.MEMORY, "the kernel ended it at its memory ceiling"),))
            logger.warning("%s: process %d ended: %s", self.name, tree.identity.pid, ended.code)
        if ended is not None and not self._told_of_end:
            self._told_of_end = True
            self._do(self.machine.ended(now, ended.code))
        if self.state is State.STOPPING:
            tree.reap()
            if ended is not None and not tree.members():
                self._tree = self._health = None
                self.memory = 0
                self._do(self.machine.gone(now))
            elif ended is not None:
                tree.ask_to_stop(self.config.stop_signal)

    def _watch(self, now: float) -> None:
        if self._tree is not None:
            self._tree.reap()
            self.memory = self._tree.memory()
            breach = memory_breach(self.memory, self.config.limits)
            if breach is not None:
                self._do(self.machine.breach(now, breach))
        for path in self.config.limits.disk_paths:
            problem = short_of_space(path, self.config.limits)
            if problem is not None:
                self._around.alerts.raise_alert(conditions.DISK_SPACE, str(path), problem)
            else:
                self._around.alerts.clear(conditions.DISK_SPACE, str(path))
        try:
            self.log.rotate_if_full()
        except OSError as error:
            logger.error("the log of %s could not be rotated: %s", self.name, error)

    def _do(self, actions: Actions) -> None:
        alerts = self._around.alerts
        for action in actions:
            match action:
                case Raise(kind, message):
                    alerts.raise_alert(kind, self.name, message)
                case Clear(kind):
                    alerts.clear(kind, self.name, at_once=True)
                case Do.SPAWN:
                    self._spawn()
                case Do.CHECK_FILE:
                    self._check_files()
                case Do.SIGNAL if self._tree is not None:
                    self._tree.ask_to_stop(self.config.stop_signal)
                case Do.KILL if self._tree is not None:
                    logger.warning("%s: killed after its grace period", self.name)
                    self._tree.kill()

    def _spawn(self) -> None:
        config, around = self.config, self._around
        if (mark := self._new_mark()) is None:
            return
        arguments = command.expand(config.command, around.config_path)
        environment = {name: secret.get_secret_value() for name, secret in config.environment.items()}
        try:
            if self._ceiling is None:
                self._ceiling = Ceiling(self.name, config.limits)
                if self._ceiling.missing is not None:
                    logger.info("%s: memory is watched, not enforced: %s", self.name, self._ceiling.missing)
            self._tree = process.spawn(
                arguments,
                mark=mark,
                log=self.log.path,
                directory=config.directory,
                environment=environment,
                user=config.user,
            )
        except SpawnError as error:
            self._do(self.machine.not_spawned(self._now(), error.problem))
            return
        self.restarts_total += self.launched
        self._told_of_end = False
        self._limit(self._tree, self._ceiling)
        self.machine.spawned(self._now())
        logger.info("%s: started as process %d", self.name, self._tree.identity.pid)
        self._watch_health(adopted=False)

    def _new_mark(self) -> str | None:
        """A mark for what is started next, recorded; None: it could not be, and nothing may be started.

        Recorded first, as a supervisor killed right after the start must leave enough to find the process.
        """
        self._mark = f"{self.name}:{uuid.uuid4().hex}"
        try:
            self._around.persist()
        except StateError as error:
            self._mark = None
            self._do(self.machine.not_spawned(self._now(), str(error)))
        return self._mark

    def _limit(self, tree: Tree, ceiling: Ceiling) -> None:
        try:
            ceiling.apply(tree)
            apply_share(tree, self.config.limits)
        except (OSError, psutil.Error) as error:
            logger.warning("%s: its limits were not all set: %s", self.name, error)

    def _watch_health(self, *, adopted: bool) -> None:
        assert self._tree is not None
        self._health = ProgramHealth(
            self.config.health,
            self._around.clock,
            self._tree.trouble,
            environment={"CDC_PROGRAM": self.name, "CDC_PID": str(self._tree.identity.pid)},
            config_path=self._around.config_path,
            adopted=adopted,
        )

    def _check_files(self) -> None:
        config = self.config.before_restart
        assert config is not None
        if (mark := self._new_mark()) is None:
            return
        environment = {process.MARK: mark, "CDC_PROGRAM": self.name}
        wall = self._around.clock.wall()

        def run() -> None:
            verdict, detail = filecheck.check_files(config, self._around.config_path, environment, wall)
            self._checks.append((mark, verdict, detail))

        threading.Thread(target=run, name=f"check-files-{self.name}", daemon=True).start()

    def _now(self) -> float:
        return self._around.clock.monotonic()
