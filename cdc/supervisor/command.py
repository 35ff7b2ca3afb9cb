"""How a command is run once, within a time, and ended with everything it started when the time is over."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from cdc.environment import without_secrets

if sys.platform == "win32":
    from cdc.supervisor import windows as host
else:
    from cdc.supervisor import posix as host

OUTPUT_TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Completed:
    """What came of a command. `code` is None when it could not be started or did not end in time."""

    code: int | None
    output: str
    """The end of its output, or why there is none."""


def expand(command: Sequence[str], config: Path | None) -> tuple[str, ...]:
    """The command with `{python}` and `{config}` filled in."""
    values = {"{python}": sys.executable, "{config}": str(config) if config else ""}
    expanded = []
    for argument in command:
        for name, value in values.items():
            argument = argument.replace(name, value)
        expanded.append(argument)
    return tuple(expanded)


def is_own_replicator(command: Sequence[str]) -> bool:
    """Whether this command, expanded, is `cdc run` by this very Python, which may have the secrets."""
    return tuple(command[:3]) == (sys.executable, "-m", "cdc") and "run" in command[3:]


def run(
    command: Sequence[str],
    timeout_seconds: float,
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Completed:
    """Run `command` without a shell and wait; one that takes too long is killed with all it started."""
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                list(command),
                cwd=directory,
                env=without_secrets() | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **host.popen_options(None),
            )
        except OSError as error:
            return Completed(None, f"it could not be started: {error.strerror or error}")
        try:
            code = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            _kill_tree(process)
            return Completed(None, f"it did not end within {timeout_seconds:g} s")
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - OUTPUT_TAIL_BYTES))
        return Completed(code, output.read().decode(errors="replace").strip())


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    try:
        tree = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        tree = []
    process.kill()  # first, so that it starts no more; its session then shows what it started meanwhile
    tree += [other for other in psutil.process_iter() if host.in_session(other.pid, process.pid)]
    for child in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
