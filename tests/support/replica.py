"""A `cdc run` process for tests: started, told to die at a step, killed, asked to stop, its words read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.warm import WarmProcess

ROOT = Path(__file__).parents[2]


class Replica:
    """A `cdc run` process. A context manager; it is killed at the end if it still runs."""

    def __init__(
        self,
        config: Path,
        *arguments: str,
        die_at: str = "",
        die_by: str = "KILL",
        die_on: int = 1,
        clock: Path | None = None,
        mortal: bool = False,
        within: Sequence[str] = (),
    ) -> None:
        """`mortal`: `die` works. `within`: a command that becomes the one given to it, in another place."""
        module = "tests.support.dying" if die_at or clock or mortal else "cdc"
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DUCKDB_", "CLICKHOUSE_"))
        }
        self._tells_stacks = module != "cdc"
        environment |= {"CDC_DIE_AT": die_at, "CDC_DIE_BY": die_by, "CDC_DIE_ON": str(die_on)}
        self._death = config.with_name(f"death-{time.monotonic_ns()}")
        if mortal:
            environment["CDC_DIE_FILE"] = str(self._death)
        if clock is not None:
            environment["CDC_CLOCK"] = str(clock)
        self._log = config.with_name(f"replica-{time.monotonic_ns()}.log")
        words = ["--config", str(config), "run", *arguments]
        self.process: subprocess.Popen[bytes] | WarmProcess
        if not within:
            self.process, self._tells_stacks = WarmProcess(module, words, self._log, environment), True
            return
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*within, sys.executable, "-m", module, *words],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"its log:\n{self.log}\nits threads:\n{self.stacks()}")
        self.kill()

    @property
    def log(self) -> str:
        if not self._log.exists():  # it has not opened it yet
            return ""
        return self._log.read_text(errors="replace")

    def messages(self) -> list[str]:
        """What a person would notice in the log: warnings and errors, and the last word of the process."""
        found = []
        for line in self.log.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                found.append(line)
                continue
            if event.get("level") in ("warning", "error", "critical"):
                found.append(str(event.get("error") or event["event"]))
        return found

    def stacks(self, seconds: float = 5.0) -> str:
        """Where each of its threads is just now, as far as it can be told."""
        if not self._tells_stacks or self.process.poll() is not None:
            return "it cannot be asked"
        before, deadline = len(self.log), time.monotonic() + seconds
        self.process.send_signal(signal.SIGUSR1)
        told = ""
        while time.monotonic() < deadline and (not told or told != self.log[before:]):
            told = self.log[before:]
            time.sleep(0.2)
        return told or f"nothing said within {seconds} s"

    def die(self, step: str, by: str) -> int:
        """Have it end by signal `by` as soon as it reaches `step`; its exit code."""
        fresh = self._death.with_suffix(".new")
        fresh.write_text(f"{step}:{by}")
        fresh.replace(self._death)
        return self.wait(60.0)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=80)

    def stop(self) -> int:
        """Ask it to end, as a service manager does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(120.0)

    def wait(self, seconds: float = 80.0) -> int:
        return self.process.wait(timeout=seconds)
