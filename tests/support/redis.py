"""A real Redis 7, Debian's redis-server, in a directory and on ports of its own, with TLS too."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from cdc.config.redis import RedisOptions
from tests.support.clickhouse import Certificates
from tests.support.waiting import wait_until

PASSWORD = "s3cret & <quoted> @:/"
"""With the characters that a URL would spoil."""
SERVER = shutil.which("redis-server")


class RedisServer:
    """One server process. A context manager.

    Args:
        settings: further lines of redis.conf.
    """

    def __init__(self, directory: Path, certificates: Certificates, *settings: str) -> None:
        if SERVER is None:
            raise RuntimeError("redis-server is not installed; run: apt-get install redis-server")
        self._directory = directory
        self._certificates = certificates
        with ExitStack() as held:
            probes = [held.enter_context(socket.socket()) for _ in range(2)]
            for probe in probes:
                probe.bind(("127.0.0.1", 0))
            self.port, self.tls_port = (probe.getsockname()[1] for probe in probes)
        self._process: subprocess.Popen[bytes] | None = None
        lines = (
            f"port {self.port}",
            f"tls-port {self.tls_port}",
            f"tls-cert-file {certificates.server}",
            f"tls-key-file {certificates.server_key}",
            f"tls-ca-cert-file {certificates.ca}",
            "tls-auth-clients yes",
            "bind 127.0.0.1",
            f"dir {directory}",
            'save ""',
            'requirepass "' + PASSWORD + '"',
            *settings,
        )
        (directory / "redis.conf").write_text("\n".join(lines) + "\n")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def options(self) -> RedisOptions:
        return RedisOptions(f"redis://127.0.0.1:{self.port}/0", PASSWORD, timeout_seconds=0.5)

    @property
    def tls_options(self) -> RedisOptions:
        """Over mutual TLS."""
        return RedisOptions(
            f"rediss://localhost:{self.tls_port}/0",
            PASSWORD,
            ca_file=self._certificates.ca,
            cert_file=self._certificates.client,
            key_file=self._certificates.client_key,
        )

    def configuration(self, directory: Path, *, lease_seconds: int = 2) -> str:
        """Lines for a configuration in `directory` that uses this Redis, for the lease too; its password goes
        into the secrets beside it."""
        secrets = directory / "secrets.toml"
        secrets.write_text(f"[auth]\nredis_password = {json.dumps(PASSWORD)}\n")
        secrets.chmod(0o600)
        return f"""
[redis]
url = "redis://127.0.0.1:{self.port}/0"
timeout_sec = 0.5
lease = true
lease_sec = {lease_seconds}
"""

    @contextmanager
    def client(self) -> Iterator[redis.Redis[bytes]]:
        with redis.Redis(host="127.0.0.1", port=self.port, password=PASSWORD) as client:
            yield client

    def start(self) -> None:
        with (self._directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [str(SERVER), str(self._directory / "redis.conf")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(self._answers, "Redis to answer")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It hangs: its connections stay open, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "output.log").read_text()
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
