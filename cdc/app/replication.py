"""What keeps a source and its target equal, from validated settings, until told to stop?

It belongs to whoever runs it, a command or a thread of another program: it changes neither the process's
niceness nor its signal handlers nor its logging, and it never ends the process.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace

import structlog

from cdc.app.opening import Opened, Opening, StoppedWaiting
from cdc.app.policies import policies_of
from cdc.app.reconciling import ComparingThreads
from cdc.app.tables import Tables
from cdc.app.wiring import plan_again
from cdc.config import Settings
from cdc.errors import CdcError, SourceReplaced
from cdc.replicator.parts import Hooks, Ports
from cdc.replicator.runner import Replicator
from cdc.source import CompletionRule

_END_SECONDS = 0.5
"""How long a replication that ends by itself is held up by the thread that waits for the word to stop."""
LOOK_SECONDS = 1.0
"""How often a running replication looks for tables that are new or altered."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a replication ended."""

    reading: bool = False
    """Whether a read was still under way, which DuckDB does not let be interrupted. Everything was left open
    then, the source's lease too: closing what the read uses would end the process by a signal. Ending the
    process at once, as by a kill, loses nothing."""
    error: CdcError | None = None
    """Why it ended, where it was not told to; only if `reading`, for it is raised otherwise."""


class Replication:
    """The replication of one source, as its settings ask for it.

    >>> replication = Replication(load(Path("config.toml")))
    >>> threading.Thread(target=replication.run, args=(stop,)).start()

    It can be run again once it has ended in order. Two of one source exclude each other by its lease.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._left_open: ExitStack | None = None

    def __repr__(self) -> str:
        return f"Replication({self._settings.database.path})"

    def run(
        self,
        stop: threading.Event,
        *,
        standby: bool = False,
        drain_seconds: float = 0.0,
        hurry: threading.Event | None = None,
    ) -> Ended:
        """Replicate until `stop` is set; once tables are looked for, an error that ends it sets it too.

        Args:
            standby: where another replicator is active, wait and take over when that ends.
            drain_seconds: once stopped, deliver first what is committed by then, for so long at most.
            hurry: ends that at once.

        Raises:
            ConfigError, SourceError, StateError: nothing can be replicated until a person does something.
            LeaseHeld: another replicator is active on this source, or has taken over.
        """
        while True:
            with _Following(stop) as ending, _Following(hurry or threading.Event()) as hurrying:
                at_once = hurrying if drain_seconds else ending
                try:
                    return self._run(ending, at_once, standby=standby, drain_seconds=drain_seconds)
                except SourceReplaced as error:
                    structlog.get_logger("cdc.run").warning("begun again with it", error=str(error))
                except BaseException:
                    if at_once.is_set():
                        stop.set()
                    raise

    def _run(
        self, stop: threading.Event, at_once: threading.Event, *, standby: bool, drain_seconds: float
    ) -> Ended:
        """As `run`, for one database; `at_once` ends every wait.

        Raises:
            SourceReplaced: another one is at the path.
        """
        with ExitStack() as stack:
            try:
                opened = Opening(self._settings, stack, stop, standby=standby).all()
            except StoppedWaiting:
                return Ended()
            opened = replace(opened, stop=at_once)
            replicator = _replicator_of(opened)
            stack.callback(replicator.stop)  # before anything is closed, also after an error nobody expected
            tables = Tables(opened, replicator)
            comparing = ComparingThreads(opened, replicator, lambda: tables.found)
            error = _look_until_stopped(tables, stop, opened.stop)
            if drain_seconds and error is None and not opened.stop.is_set():
                _drain(replicator, drain_seconds)
            replicator.stop()
            ended = replicator.join() and comparing.join()
            error = error or replicator.error
            if not ended:
                structlog.get_logger("cdc.run").warning("ended although a read is still under way")
                self._left_open = stack.pop_all()
                return Ended(reading=True, error=error)
            if error is not None:
                raise error
        return Ended()


class _Following:
    """An event that is set as soon as another one is, or by itself: a replication ends alone by that."""

    def __init__(self, other: threading.Event) -> None:
        self._event = threading.Event()
        self._ended = False
        self._other = other
        self._thread = threading.Thread(target=self._run, name="stop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            if self._other.wait(_END_SECONDS):
                self._event.set()
                return

    def __enter__(self) -> threading.Event:
        return self._event

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()


def _replicator_of(opened: Opened) -> Replicator:
    settings, source = opened.settings, opened.source
    return Replicator(
        Ports(source, opened.target, opened.marks, opened.observer),
        policies_of(settings, opened.limits),
        Hooks(
            plan_again=lambda plan: plan_again(settings, source, plan),
            rules=CompletionRule,
            copied=opened.copied,
            target_restarted=opened.observer.audits.target_restarted,
        ),
        stop=opened.stop,
    )


def _drain(replicator: Replicator, seconds: float) -> None:
    """Deliver the rest, and say whether that was possible."""
    log = structlog.get_logger("cdc.run")
    left = replicator.drain(seconds)
    if not left:
        log.info("everything is delivered that was committed")
        return
    log.warning(
        "ended before all was delivered",
        tables=sorted(map(str, left)),
        remedy="The next start delivers the rest; 'cdc status' shows how far each table is",
    )


def _look_until_stopped(tables: Tables, stop: threading.Event, ended: threading.Event) -> CdcError | None:
    """Look for tables until told to stop; gives the error that leaves nothing to replicate, if any.

    Args:
        ended: set where the replicator ends by itself.
    """
    while not (stop.is_set() or ended.is_set()):
        try:
            tables.look()
        except CdcError as error:
            return error
        stop.wait(LOOK_SECONDS)
    return None
