"""Processes of `cdc` that begin with everything imported: forked from a server that imported it once.

Importing takes a second of a processor, more than most such processes then work. What a process is told by
its command line and environment is the same as for one that was started anew; that one is tested by the tests
of the command line, of the supervisor and of the services. It goes at the test's own priority, for others of
its kind would keep it waiting on a busy machine; of a test process's replicators the first alone tests
its DuckDB before it begins; and on SIGUSR1 it writes the stack of every thread to its output.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import duckdb

from cdc.app import opening
from cdc.cli import run
from cdc.source import SelfTest

_ROOT = Path(__file__).parents[2]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.support.warm_imports"])
_started = count()


class WarmProcess:
    """`python -m MODULE ARGUMENTS`, with the part of `subprocess.Popen` that tests use."""

    stderr: None = None
    """It is in the file of its output."""

    def __init__(self, module: str, arguments: Sequence[str], output: Path, env: Mapping[str, str]) -> None:
        """Its standard output and error are appended to the file `output`; its standard input is empty."""
        self.args = [sys.executable, "-m", module, *arguments]
        given = (module, list(arguments), str(output), dict(env), next(_started) == 0)
        self._process = _CONTEXT.Process(target=_become, args=given, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises: `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        if (code := self.returncode) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def _become(module: str, arguments: list[str], output: str, env: dict[str, str], self_test: bool) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(_ROOT)
    setattr(run, "give_way", lambda: None)  # noqa: B010 - mypy refuses =
    if not self_test:
        setattr(opening, "run_self_test", lambda directory: SelfTest(duckdb.__version__, 0.0))  # noqa: B010
    opened = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for standard in (1, 2):
        os.dup2(opened, standard)
    os.close(opened)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
