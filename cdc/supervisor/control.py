"""How `cdc ctl` and a running supervisor talk: one JSON line each way, over a socket of this machine alone.

A Unix domain socket that only its owner may open; on Windows alone, where Python has none, TCP on the
loopback interface, which any user may connect to. Where it listens, and a token that TCP callers must send,
stand in `control.json` in the supervisor's directory, readable by its owner alone.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import os
import queue
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cdc.errors import CdcError, StateError
from cdc.supervisor.record import replace_file

logger = logging.getLogger(__name__)

AF_UNIX: Any = getattr(socket, "AF_UNIX", None)
"""None on Windows, where Python does not offer it."""
FILE_NAME = "control.json"
SOCKET_NAME = "control.sock"
UNIX_PATH_BYTES = 100
"""sockaddr_un holds 108 bytes on Linux, 104 elsewhere, with the final zero."""
MAX_LINE_BYTES = 1 << 16
CALLER_SEC = 2.0
"""A caller has this long to send its line: callers are served one at a time."""
ANSWER_SEC = 10.0
"""The loop answers within a tick; past this it hangs, and the caller is told so."""

Request = dict[str, Any]
Answer = dict[str, Any]


class ControlServer:
    """Listens while it is entered; the loop answers by calling `serve`, in its own thread."""

    def __init__(self, directory: Path, *, unix: bool | None = None) -> None:
        self._directory = directory
        socket_path = directory / SOCKET_NAME
        self._unix = AF_UNIX is not None if unix is None else unix
        self._socket_path = socket_path
        self._token = secrets.token_urlsafe(32)
        self._requests: queue.Queue[tuple[Request, Future[Answer]]] = queue.Queue()
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="control", daemon=True)

    def __enter__(self) -> Self:
        self._listener, address = self._listen()
        self._listener.settimeout(0.5)
        content = json.dumps({"address": address, "token": self._token, "pid": os.getpid()})
        replace_file(self._directory / FILE_NAME, content.encode())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._thread.join()
        self._listener.close()
        for path in (self._directory / FILE_NAME, self._socket_path):
            path.unlink(missing_ok=True)

    def serve(self, handle: Callable[[Request], Answer]) -> None:
        """Answer every request that waits. A CdcError of `handle` is told to its caller."""
        with contextlib.suppress(queue.Empty):
            while True:
                request, future = self._requests.get_nowait()
                try:
                    future.set_result({"ok": True} | handle(request))
                except CdcError as error:
                    future.set_result({"ok": False, "error": str(error)})

    def _listen(self) -> tuple[socket.socket, str | list[object]]:
        if not self._unix:
            listener = socket.create_server(("127.0.0.1", 0))
            return listener, list(listener.getsockname())
        self._socket_path.unlink(missing_ok=True)  # the supervisor's lock is held: nobody listens there
        listener = socket.socket(AF_UNIX, socket.SOCK_STREAM)
        with _short(self._socket_path) as path:
            listener.bind(path)
        self._socket_path.chmod(0o600)  # before listen: nobody can have connected yet
        listener.listen()
        return listener, str(self._socket_path)

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            with connection:
                try:
                    connection.settimeout(CALLER_SEC)
                    answer = self._answer(_read_line(connection, CALLER_SEC))
                    connection.settimeout(CALLER_SEC)
                    connection.sendall(json.dumps(answer).encode() + b"\n")
                except (OSError, ValueError) as error:
                    logger.debug("a caller of the control socket went away: %s", error)

    def _answer(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"ok": False, "error": "the request is not JSON"}
        if not isinstance(request, dict):
            return {"ok": False, "error": "the request is not an object"}
        token = str(request.get("token")).encode(errors="surrogatepass")
        if not self._unix and not hmac.compare_digest(token, self._token.encode()):
            return {"ok": False, "error": "the token is wrong"}
        future: Future[Answer] = Future()
        self._requests.put((request, future))
        try:
            return future.result(ANSWER_SEC)
        except TimeoutError:
            return {"ok": False, "error": f"the supervisor did not answer within {ANSWER_SEC:g} s"}


def ask(directory: Path, request: Request) -> Answer:
    """Send one request to the supervisor of `directory`; its answer, without `ok`.

    Raises:
        StateError: no supervisor runs there, or it does not answer.
        CdcError: it refused, and why.
    """
    path = directory / FILE_NAME
    try:
        control = json.loads(path.read_bytes())
        address = control["address"]
        line = json.dumps(request | {"token": control["token"]}).encode() + b"\n"
        if isinstance(address, str):
            connection = socket.socket(AF_UNIX, socket.SOCK_STREAM)
        else:
            address = tuple(address)
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with connection:
            connection.settimeout(ANSWER_SEC + 2 * CALLER_SEC)
            if isinstance(address, str):
                with _short(Path(address)) as short:
                    connection.connect(short)
            else:
                connection.connect(address)
            connection.sendall(line)
            answer = json.loads(_read_line(connection, ANSWER_SEC + 2 * CALLER_SEC))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = "none runs there" if isinstance(error, FileNotFoundError) else str(error)
        raise StateError(
            "reach the supervisor of", directory, problem, "Start it with 'cdc supervise', as the same user."
        ) from error
    if not answer.pop("ok"):
        raise CdcError(request["command"], request.get("name", "programs"), answer["error"], "")
    return dict(answer)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of the socket at `path` that an address holds: where it is too long, by its directory as opened.

    Raises:
        OSError: there is no such name on this system.
    """
    if len(os.fsencode(path)) <= UNIX_PATH_BYTES:
        yield str(path)
        return
    if not sys.platform.startswith("linux"):
        problem = f"{path} is too long for a socket: {UNIX_PATH_BYTES} bytes at most"
        raise OSError(f"{problem}; name a shorter directory")
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _read_line(connection: socket.socket, seconds: float) -> bytes:
    """The bytes up to the first newline, or the end, all of them within so many seconds.

    Raises:
        OSError: nothing came in time, or too much.
    """
    line = b""
    deadline = time.monotonic() + seconds
    while not line.endswith(b"\n"):
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(MAX_LINE_BYTES)
        if not part:
            break
        line += part
        if len(line) > MAX_LINE_BYTES:
            raise OSError("the line is too long")
    return line
