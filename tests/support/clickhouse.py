"""A real ClickHouse server of the oldest release supported: Debian's clickhouse-server 18.16.

It listens on free ports of 127.0.0.1 in a directory of its own, with TLS and mutual TLS from certificates
made on the spot. It can be killed, frozen and restarted on its data, and is stopped by its process id.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from tests.support.waiting import wait_until

PASSWORD = "s3cret & <quoted>"
"""Of the user `keeper`: with the characters that a header, an XML file and an URL would each spoil."""

SERVER = shutil.which("clickhouse-server", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


@dataclass(frozen=True, slots=True)
class Certificates:
    """An authority, a server's certificate for localhost and 127.0.0.1, and a client's; all PEM files."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


@dataclass(frozen=True, slots=True)
class Ports:
    native: int
    http: int
    native_tls: int
    http_tls: int
    interserver: int

    @classmethod
    def free(cls) -> Ports:
        """Ports that were free together a moment ago."""
        with ExitStack() as held:
            found = []
            for _ in range(5):
                probe = held.enter_context(socket.socket())
                probe.bind(("127.0.0.1", 0))
                found.append(probe.getsockname()[1])
        return cls(*found)


class ClickHouseServer:
    """One server process. `mutual_tls`: its TLS ports refuse a client without a certificate."""

    host = "127.0.0.1"

    def __init__(self, directory: Path, certificates: Certificates, *, mutual_tls: bool = False) -> None:
        if SERVER is None:
            raise RuntimeError("clickhouse-server is not installed; run: apt-get install clickhouse-server")
        self.directory = directory
        self.certificates = certificates
        self.ports = Ports.free()
        self._process: subprocess.Popen[bytes] | None = None
        self._configure(mutual_tls)

    def __repr__(self) -> str:
        pid = None if self._process is None else self._process.pid
        return f"ClickHouseServer(pid={pid}, native={self.ports.native}, http={self.ports.http})"

    @property
    def native_port(self) -> int:
        return self.ports.native

    @property
    def http_port(self) -> int:
        return self.ports.http

    def start(self) -> None:
        """Start the process and wait until it answers."""
        with (self.directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [str(SERVER), f"--config-file={self.directory / 'config.xml'}"],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(self._answers, f"{self} to answer")

    def stop(self) -> None:
        """End the process in order, and by force if it waits for idle connections."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End the process as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ensure(self) -> None:
        """Start the process unless it runs."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def restart(self) -> None:
        """Start again on the same data and ports."""
        self.stop()
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """A server that hangs: its connections stay open, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            if self._process is not None:  # else it was killed meanwhile
                self._process.send_signal(signal.SIGCONT)

    def query(self, sql: str) -> str:
        """The answer to `sql` as tab-separated text, without its last newline."""
        connection = http.client.HTTPConnection(self.host, self.ports.http, timeout=20)
        try:
            connection.request("POST", "/", sql.encode())
            response = connection.getresponse()
            answer = response.read().decode()
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise AssertionError(f"{sql}: {answer}")
        return answer.removesuffix("\n")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            log = (self.directory / "server.log").read_text(errors="replace")[-3000:]
            raise AssertionError(f"clickhouse-server ended with {self._process.returncode}: {log}")
        try:
            return self.query("SELECT 1") == "1"
        except OSError:
            return False

    def _configure(self, mutual_tls: bool) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "config.xml").write_text(self._config(mutual_tls))
        self._write_users()

    def restrain(self, **settings: int) -> None:
        """Let the user `restrained` work under these settings from its next connection on, and no others."""
        self._write_users(**settings)
        self.query("SYSTEM RELOAD CONFIG")

    def _write_users(self, **settings: int) -> None:
        profile = "".join(f"<{name}>{value}</{name}>" for name, value in settings.items())
        fresh = self.directory / "users.new"
        fresh.write_text(_USERS.replace("<restrained/>", f"<restrained>{profile}</restrained>"))
        fresh.replace(self.directory / "users.xml")

    def _config(self, mutual_tls: bool) -> str:
        ports, certificates = self.ports, self.certificates
        return f"""<yandex>
  <logger><level>warning</level><log>{self.directory}/server.log</log></logger>
  <listen_host>{self.host}</listen_host>
  <tcp_port>{ports.native}</tcp_port>
  <http_port>{ports.http}</http_port>
  <tcp_port_secure>{ports.native_tls}</tcp_port_secure>
  <https_port>{ports.http_tls}</https_port>
  <interserver_http_port>{ports.interserver}</interserver_http_port>
  <openSSL><server>
    <certificateFile>{certificates.server}</certificateFile>
    <privateKeyFile>{certificates.server_key}</privateKeyFile>
    <caConfig>{certificates.ca}</caConfig>
    <verificationMode>{"strict" if mutual_tls else "none"}</verificationMode>
    <loadDefaultCAFile>false</loadDefaultCAFile>
  </server></openSSL>
  <path>{self.directory}/data/</path>
  <tmp_path>{self.directory}/tmp/</tmp_path>
  <user_files_path>{self.directory}/user_files/</user_files_path>
  <format_schema_path>{self.directory}/format_schemas/</format_schema_path>
  <users_config>{self.directory}/users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <timezone>UTC</timezone>
  <mark_cache_size>16777216</mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <keep_alive_timeout>30</keep_alive_timeout>
</yandex>
"""


_USERS = f"""<yandex>
  <profiles>
    <default/>
    <readonly><readonly>1</readonly></readonly>
    <small><max_memory_usage>1000000</max_memory_usage></small>
    <restrained/>
  </profiles>
  <quotas>
    <default/>
    <spent><interval><duration>3600</duration><queries>1</queries></interval></spent>
  </quotas>
  <users>
    <default>
      <password></password><networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile><quota>default</quota>
    </default>
    <keeper>
      <password>{escape(PASSWORD)}</password><networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile><quota>default</quota>
    </keeper>
    <reader>
      <password></password><networks><ip>127.0.0.1</ip></networks>
      <profile>readonly</profile><quota>default</quota>
    </reader>
    <restrained>
      <password></password><networks><ip>127.0.0.1</ip></networks>
      <profile>restrained</profile><quota>default</quota>
    </restrained>
    <small>
      <password></password><networks><ip>127.0.0.1</ip></networks>
      <profile>small</profile><quota>default</quota>
    </small>
    <spent>
      <password></password><networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile><quota>spent</quota>
    </spent>
    <stranger>
      <password></password><networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile><quota>default</quota>
      <allow_databases><database>elsewhere</database></allow_databases>
    </stranger>
  </users>
</yandex>
"""


@contextmanager
def running_server(
    directory: Path, certificates: Certificates, *, mutual_tls: bool = False
) -> Iterator[ClickHouseServer]:
    """A started server, stopped at the end."""
    server = ClickHouseServer(directory, certificates, mutual_tls=mutual_tls)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def make_certificates(directory: Path) -> Certificates:
    """Certificates valid for a day, by the openssl command."""
    directory.mkdir(parents=True, exist_ok=True)
    _openssl(
        directory,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
        "-keyout ca.key -out ca.crt -subj /CN=authority",
    )
    for name, extension in (("server", "subjectAltName=DNS:localhost,IP:127.0.0.1"), ("client", "")):
        _openssl(
            directory,
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
            f"-keyout {name}.key -out {name}.csr -subj /CN={name}",
        )
        (directory / f"{name}.ext").write_text(extension)
        _openssl(
            directory,
            f"x509 -req -days 1 -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial "
            f"-out {name}.crt -extfile {name}.ext",
        )
    return Certificates(
        *(directory / name for name in ("ca.crt", "server.crt", "server.key", "client.crt", "client.key"))
    )


def _openssl(directory: Path, arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments.split()], cwd=directory, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
