"""How is a socket to an endpoint opened? Every address in turn, TLS where asked for, always a time-out."""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
import ssl
import time
from collections.abc import Callable

from cdc.config.endpoint import Endpoint, Tls
from cdc.rate import Rate

SLOWEST_BYTES = 10_000
"""A second, of an answer that is waited for."""


def dial(
    endpoint: Endpoint,
    timeout_seconds: float,
    opened: Callable[[socket.socket], None],
    rate: Rate | None = None,
) -> socket.socket:
    """A connected socket, with TLS where the endpoint is secure.

    `opened` is given each socket before it waits for anything, so that another thread can end the wait.
    `rate` bounds how many are dialled in a second.

    Raises:
        OSError: the last address's failure; `ssl.SSLError` where the handshake failed.
    """
    if rate is not None and (seconds := rate.take(1.0)) > 0:
        time.sleep(min(seconds, timeout_seconds))
    failure: OSError = socket.gaierror(f"no address for {endpoint.host}")
    context = _context(endpoint.tls) if endpoint.secure else None
    for family, kind, protocol, _, address in socket.getaddrinfo(
        endpoint.host, endpoint.port, type=socket.SOCK_STREAM
    ):
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(timeout_seconds)
            opened(plain)
            plain.connect(address)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if context is None:
                return plain
            wrapped = context.wrap_socket(
                plain,
                server_hostname=endpoint.tls.server_name or endpoint.host,
                do_handshake_on_connect=False,
            )
        except OSError as error:
            plain.close()
            failure = error
            continue
        try:
            opened(wrapped)
            wrapped.do_handshake()
        except OSError as error:
            wrapped.close()
            failure = error
            continue
        return wrapped
    raise failure


def is_stale(connection: socket.socket) -> bool:
    """Whether an idle connection was closed by the other side, which otherwise says nothing while idle."""
    if connection.fileno() < 0:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))


class Patience:
    """How long an answer is waited for whose bytes come one by one, each within the time-out of a socket."""

    def __init__(self, timeout_seconds: float | None) -> None:
        self._timeout = math.inf if timeout_seconds is None else timeout_seconds
        self._began = time.monotonic()

    def check(self, size: int) -> None:
        """`size` bytes have arrived.

        Raises:
            TimeoutError: since the time-out fewer than `SLOWEST_BYTES` a second.
        """
        if time.monotonic() - self._began > self._timeout + size / SLOWEST_BYTES:
            raise TimeoutError("its answer comes too slowly")


def hang_up(connection: socket.socket) -> None:
    """Close `connection`, and end at once whatever another thread waits for on it."""
    with contextlib.suppress(OSError):  # not connected yet, or no longer: nothing waits on it
        # Not SSLSocket.shutdown, which takes the TLS state from under the thread that is using it.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    connection.close()


def _context(tls: Tls) -> ssl.SSLContext:
    for file in (tls.ca_file, tls.cert_file, tls.key_file):
        if file is not None:
            file.stat()  # its error names the file, which OpenSSL's does not
    context = ssl.create_default_context(cafile=None if tls.ca_file is None else str(tls.ca_file))
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: _key_password(tls))
    return context


def _key_password(tls: Tls) -> str:
    """Asked for where the key is encrypted; without it OpenSSL would ask on the terminal."""
    if tls.key_password is None:
        raise ssl.SSLError(f"{tls.key_file} is encrypted; its password is client_key_password of [auth]")
    return tls.key_password.get_secret_value()
