"""How does a test get a modern server, break it, and get it back?"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import pytest

from tests.support.modern.faults import Fault
from tests.support.modern.users import User, write_users

_ROOT = Path(__file__).parents[3]
_STOP_SECONDS = 20

WRITER = User("writer", "may insert", ("INSERT ON *.*",))
READER = User("reader", "may select", ("SELECT ON *.*",))
"""Users of the `modern_server` fixture besides `default`."""


class ModernServer:
    """ClickHouse 26 of chdb on `path`, in a process of its own; its ports stay the same over restarts.

    `users` besides `default` take effect at the next `restart`.
    """

    def __init__(self, path: Path, users: tuple[User, ...] = ()) -> None:
        self.path = path
        self.users = users
        self.native_port = 0
        self.http_port = 0
        self.version = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = itertools.count(1)

    def __enter__(self) -> Self:
        self.restart()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Raises RuntimeError when it is not running."""
        if self._process is None:
            raise RuntimeError("the modern server is not running")
        return self._process.pid

    def restart(self) -> None:
        """Start, after a stop where it runs, on the same data and the same ports."""
        self.stop()
        command = [sys.executable, "-m", "tests.support.modern", "--path", str(self.path)]
        command += ["--native-port", str(self.native_port), "--http-port", str(self.http_port)]
        self.path.mkdir(parents=True, exist_ok=True)
        users = self.path / "modern-users.json"
        write_users(self.users, users)
        command += ["--users", str(users)]
        process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the modern server ended with code {process.wait()} before it was ready")
        ready = json.loads(line)
        self.native_port, self.http_port = ready["native_port"], ready["http_port"]
        self.version = ready["version"]

    def ensure(self) -> None:
        """Start it unless it runs."""
        if self._process is None or self._process.poll() is not None:
            self.restart()

    def kill(self) -> None:
        """End it as a power failure would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order: what is being answered is finished."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """A server that hangs: its connections stay open, and nothing answers."""
        process = psutil.Process(self.pid)
        process.suspend()
        try:
            yield
        finally:
            process.resume()

    def fault(self, fault: Fault) -> None:
        """Ask for trouble with INSERTs to come."""
        self._ask("/_fault", json.dumps(asdict(fault)).encode())

    def clear_faults(self) -> None:
        self._ask("/_fault", b"")

    def faults_waiting(self) -> int:
        """How many faults asked for have not met all their INSERTs yet."""
        return int(self._ask("/_fault", b"", "GET"))

    def query(self, sql: str) -> str:
        """What the HTTP interface answers, tab-separated, without the last newline.

        Raises:
            RuntimeError: the server's error.
        """
        return self._ask("/", sql.encode()).removesuffix("\n")

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A new database, dropped at the end, as are the faults asked for."""
        name = f"fresh_{os.getpid()}_{next(self._databases)}"
        self.query(f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            self.ensure()
            self.clear_faults()
            self.query(f"DROP DATABASE {name} SYNC")

    def _ask(self, path: str, body: bytes, method: str = "POST") -> str:
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)
        ) as client:
            client.request(method, path, body)
            answer = client.getresponse()
            text = answer.read().decode("utf-8", "surrogateescape")
        if answer.status != 200:
            raise RuntimeError(text)
        return text


@dataclass(frozen=True)
class FreshDatabase:
    """A server, and a database on it that nothing else uses."""

    server: ModernServer
    name: str


@pytest.fixture(scope="session")
def modern_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModernServer]:
    """One server for all tests of this process (one per xdist worker)."""
    with ModernServer(tmp_path_factory.mktemp("modern"), (WRITER, READER)) as server:
        yield server


@pytest.fixture
def modern_server(modern_process: ModernServer) -> ModernServer:
    """The server, running and without faults, whatever the test before did to it."""
    modern_process.ensure()
    modern_process.clear_faults()
    return modern_process


@pytest.fixture
def modern_database(modern_server: ModernServer) -> Iterator[FreshDatabase]:
    """A database of its own for one test, on a running server without faults."""
    with modern_server.database() as name:
        yield FreshDatabase(modern_server, name)
