"""The page on loopback that answers /metrics, /healthz, /readyz and /status."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol, Self

from cdc.config import MetricsConfig
from cdc.errors import ConfigError
from cdc.observe.health import HealthReport
from cdc.observe.metrics import CONTENT_TYPE
from cdc.observe.status import Status

REQUEST_SECONDS = 10.0
"""A client that has not sent its request and taken its answer within this is dropped."""
MOST_CONNECTIONS = 32
"""At once; who comes then is hung up on."""
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cache-Control", "no-store"),
)
"""Nothing here is to be shown, framed or kept by a browser."""

Answer = tuple[HTTPStatus, str, bytes]


class Subject(Protocol):
    """What the page tells of."""

    def render_metrics(self) -> bytes: ...
    def live(self) -> HealthReport: ...
    def ready(self) -> HealthReport: ...
    def status(self) -> Status: ...


class Page:
    """An HTTP server in threads of its own. A context manager: it listens once entered, and not after.

    Raises (on entering):
        ConfigError: the port is in use or may not be opened.
    """

    def __init__(self, config: MetricsConfig, subject: Subject) -> None:
        self._config = config
        self._subject = subject
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        config = self._config
        try:
            self._server = _Server((config.host, config.port), _handler(self._subject))
        except OSError as error:
            raise ConfigError(
                "open the metrics page",
                f"{config.host}:{config.port}",
                error.strerror or type(error).__name__,
                "Choose another metrics.port, 0 for any that is free, or metrics.enabled = false",
            ) from None
        threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="metrics page", daemon=True
        ).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    @property
    def url(self) -> str:
        """With the port really used."""
        assert self._server is not None, "the page is not open"
        host, port = self._server.server_address[:2]
        text = host.decode() if isinstance(host, bytes | bytearray) else host
        return f"http://{f'[{text}]' if ':' in text else text}:{port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that hangs must not hold up the end

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        end = threading.Timer(REQUEST_SECONDS, _hang_up, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours."""


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)


def _is_ours(host: str | None) -> bool:
    """Whether a request's Host is this page: a name that another site gives this address is not.

    Addresses are: a browser that was lured here names the site that it was lured by.
    """
    if host is None:
        return True  # no browser
    name = host.strip().lower()
    name = name.partition("]")[0][1:] if name.startswith("[") else name.rpartition(":")[0] or name
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _handler(subject: Subject) -> type[BaseHTTPRequestHandler]:
    answers: dict[str, Callable[[], Answer]] = {
        "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE, subject.render_metrics()),
        "/healthz": lambda: _health(subject.live()),
        "/readyz": lambda: _health(subject.ready()),
        "/status": lambda: (
            HTTPStatus.OK,
            "application/json",
            subject.status().model_dump_json(indent=2).encode() + b"\n",
        ),
    }

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS
        server_version = "cdc"
        sys_version = ""

        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            if not _is_ours(self.headers.get("Host")):
                self._send(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", b"ask by address, or as localhost\n")
            elif answer is None:
                self._send(HTTPStatus.NOT_FOUND, "text/plain", f"{' '.join(answers)}\n".encode())
            else:
                self._send(*answer())

        def do_HEAD(self) -> None:
            self.do_GET()

        def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for header in _HEADERS:
                self.send_header(*header)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """A scrape every few seconds is no news."""

    return Handler


def _health(health: HealthReport) -> Answer:
    if health.ok:
        return HTTPStatus.OK, "text/plain; charset=utf-8", b"ok\n"
    return (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "text/plain; charset=utf-8",
        "\n".join(health.problems).encode() + b"\n",
    )
