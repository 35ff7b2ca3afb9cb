"""Processes forked from this one, which has imported what they need: a start costs little.

Each is as real as one that was started: it has its own pid, is killed, suspended and waited for, and runs the
command line or the writer's program from the beginning. What it does not prove is the start of an interpreter
and, in `cdc run`, the self-test of DuckDB: that passed here already. This process must have no thread of
Python's when it forks.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from cdc.app import opening
from cdc.cli import COMMANDS, main
from cdc.source import SelfTest, run_self_test
from tests.support import writer_program
from tests.support.replica import Replica
from tests.support.writers import CURRENT, Writer

_POLL_SECONDS = 0.005
_TOLD = (signal.SIGTERM, signal.SIGINT)


class Forked:
    """A child of this process; of `subprocess.Popen` what a test asks of it."""

    def __init__(self, run: Callable[[], object], *, stdin: int, stdout: int, stderr: int) -> None:
        """Run it in the child, which has these three files and none besides."""
        assert threading.active_count() == 1, "a lock that another thread holds would be held for ever"
        sys.stdout.flush()
        sys.stderr.flush()
        self.returncode: int | None = None
        # A signal that comes while the child is not itself yet would end in this process's handler.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _become(run, stdin, stdout, stderr)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 60.0) -> int:
        """Raises `subprocess.TimeoutExpired`."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"forked {self.pid}", timeout)
            time.sleep(_POLL_SECONDS)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _become(run: Callable[[], object], stdin: int, stdout: int, stderr: int) -> None:
    """What the child does; it never returns."""
    code = 1
    try:
        for told in _TOLD:  # the parent's handlers are not a new process's
            signal.signal(told, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
        gc.disable()  # what the parent dropped meanwhile has files of numbers that are others here
        for number, file in enumerate(os.dup(each) for each in (stdin, stdout, stderr)):
            os.dup2(file, number)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
        for name in [name for name in os.environ if name.startswith(("DUCKDB_", "CLICKHOUSE_"))]:
            del os.environ[name]
        gc.freeze()
        gc.enable()
        run()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - nothing may reach the parent's frames
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


@cache
def _self_tested() -> SelfTest:
    with TemporaryDirectory() as directory:
        return run_self_test(Path(directory))


def warm_up() -> None:
    """Import and find out what every child needs."""
    for name in COMMANDS:
        import_module(f"cdc.cli.{name}")
    import_module("cdc.app.replication")
    _self_tested()


def _command(config: Path, arguments: Sequence[str], broken: Callable[[], None] | None) -> Callable[[], None]:
    def run() -> None:
        tested = _self_tested()
        setattr(opening, "run_self_test", lambda _directory: tested)  # noqa: B010 - mypy refuses =
        if broken is not None:
            broken()
        sys.argv = ["cdc", "--config", str(config), *arguments]
        main()

    return run


def command(config: Path, *arguments: str) -> int:
    """Run a command of `cdc` to its end; its exit code. Nobody reads what it says."""
    with Path(os.devnull).open("r+b") as null:
        n = null.fileno()
        return Forked(_command(config, arguments, None), stdin=n, stdout=n, stderr=n).wait()


class WarmReplica(Replica):
    """`cdc run`, forked. `broken`: makes it a worse one before it begins."""

    process: Forked  # type: ignore[assignment]

    def __init__(self, config: Path, broken: Callable[[], None] | None = None) -> None:
        self._log = config.with_name(f"replica-{time.monotonic_ns()}.log")
        self._tells_stacks = False
        with self._log.open("wb") as log, Path(os.devnull).open("rb") as null:
            self.process = Forked(
                _command(config, ("run",), broken),
                stdin=null.fileno(),
                stdout=log.fileno(),
                stderr=log.fileno(),
            )


class WarmWriter(Writer):
    """The current version's writer, forked."""

    def _begin(self, version: str, options: str, python: Path | None) -> subprocess.Popen[str]:
        if version != CURRENT or python is not None:
            return super()._begin(version, options, python)
        (asked, asking), (answered, answering) = os.pipe(), os.pipe()

        def run() -> None:
            writer_program.main(str(self.path), str(self._progress), options)

        forked = Forked(run, stdin=asked, stdout=answering, stderr=2)
        os.close(asked)
        os.close(answering)
        forked.stdin = os.fdopen(asking, "w")  # type: ignore[attr-defined]
        forked.stdout = os.fdopen(answered)  # type: ignore[attr-defined]
        return forked  # type: ignore[return-value]
