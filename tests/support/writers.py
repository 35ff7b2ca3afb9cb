"""Real DuckDB writers of several versions, each a process of its own that holds its file's lock.

The current version runs under this interpreter; the others in virtual environments that are made once, below
the directory named by CDC_TEST_CACHE or a per-user cache directory.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import venv
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
from filelock import FileLock

from cdc.source.format.tested import WRITERS

CURRENT = duckdb.__version__
VERSIONS = (*(version for version in WRITERS if version != CURRENT), CURRENT)
OLDER = tuple(version for version in VERSIONS if version.startswith("1."))

_PROGRAM = Path(__file__).with_name("writer_program.py")


def cache_directory() -> Path:
    """Where what tests download once is kept."""
    named = os.environ.get("CDC_TEST_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "duckdb-clickhouse-cdc-tests"


def interpreter(version: str, *extensions: str) -> Path:
    """A Python that has DuckDB of `version`, with `extensions`; made at first use, one process at a time."""
    if version == CURRENT and not extensions:
        return Path(sys.executable)
    name = "-".join((f"duckdb-{version}", *extensions))
    home = cache_directory() / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock"):
        ready = home / "ready"
        if not ready.exists():
            venv.create(home, with_pip=True, clear=True)
            subprocess.run(
                [
                    python,
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    f"duckdb=={version}",
                    *(f"duckdb-extension-{extension}=={version}" for extension in extensions),
                ],
                check=True,
            )
            ready.touch()
    return python


class WriterError(Exception):
    """The writer's DuckDB refused a statement."""


class Writer:
    """A running writer. Leaving the context closes its database as a program that ends does.

    Args:
        config: DuckDB's settings, like `{"checkpoint_threshold": "1MB"}`.
        attach: options of an ATTACH to write through, instead of opening the file: "ENCRYPTION_KEY 'k'".
        python: with the writer's DuckDB; None: as `interpreter` makes it.
    """

    def __init__(
        self,
        path: Path,
        version: str = CURRENT,
        config: dict[str, str] | None = None,
        attach: str | None = None,
        python: Path | None = None,
    ) -> None:
        self.path = path
        self._progress = path.with_name(path.name + ".progress")
        self._progress.write_bytes(bytes(8))
        options = {**(config or {}), **({"attach": attach} if attach else {})}
        self.process = self._begin(version, json.dumps(options), python)
        try:
            self._answer()
        except BaseException:
            self.kill()
            raise

    def _begin(self, version: str, options: str, python: Path | None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [python or interpreter(version), _PROGRAM, self.path, self._progress, options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, sql: str, *parameters: Any) -> list[list[str | None]]:
        """Run one statement, committed when this returns unless within BEGIN; its rows, values as text.

        Raises:
            WriterError: DuckDB refused.
        """
        found: list[list[str | None]] = self._ask({"sql": sql, "parameters": parameters})["rows"]
        return found

    def load(self, table: str, rows: int = 10, transfers: int = 0, pause: float = 0.0) -> None:
        """From now on commit `rows` rows at a time into `table` (id, v), until `pause`."""
        self._ask({"load": {"table": table, "rows": rows, "transfers": transfers, "pause": pause}})

    def pause(self) -> int:
        """Stop the load; the rows it committed."""
        return int(self._ask({"pause": True})["committed"])

    @property
    def committed(self) -> int:
        """Rows that the load has committed, at least."""
        return int(struct.unpack("<Q", self._progress.read_bytes())[0])

    def kill(self) -> None:
        """End the process as a crash does: nothing is checkpointed or closed."""
        self.process.kill()
        self._reap()

    def close(self) -> None:
        """End the process in order, which checkpoints."""
        if self.process.poll() is None and self.process.stdin is not None:
            self.process.stdin.close()
        self._reap()

    def _reap(self) -> None:
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WriterError(f"the writer of {self.path} ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WriterError(answer["error"])
        return answer
