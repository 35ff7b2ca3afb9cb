"""What serves one data directory until SIGTERM, or until its standard input ends?

Prints one line of JSON when it is ready: `{"native_port": …, "http_port": …, "version": …}`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import signal
import socket
import socketserver
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support.modern.engine import Engine
from tests.support.modern.faults import Faults
from tests.support.modern.http_server import handler_for
from tests.support.modern.native_server import NativeClient
from tests.support.modern.users import Users, read_users


class Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves each connection on a thread; `stop` lets what is being answered finish, and reads no more."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, handler: Any) -> None:
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        self.shutdown()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
        self.server_close()


class NativeHandler(socketserver.BaseRequestHandler):
    """Gives a connection to a NativeClient."""

    def __init__(self, engine: Engine, users: Users, faults: Faults, *connection: Any) -> None:
        self._parts = engine, users, faults
        super().__init__(*connection)

    def handle(self) -> None:
        NativeClient(self.request, *self._parts).serve()


def main() -> None:
    """Serve as the command line says; the signals' handlers only set an event, so that work ends in order."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.modern", description=__doc__)
    parser.add_argument("--path", type=Path, required=True, help="data directory, made when missing")
    parser.add_argument("--native-port", type=int, default=0, help="0: any free one")
    parser.add_argument("--http-port", type=int, default=0, help="0: any free one")
    parser.add_argument("--users", type=Path, help="file of users.write_users; default: only `default`")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    users = Users(read_users(arguments.users) if arguments.users else ())
    engine, faults = users.open_engine(arguments.path), Faults()
    native = Listener(arguments.native_port, functools.partial(NativeHandler, engine, users, faults))
    web = Listener(arguments.http_port, handler_for(engine, users, faults))
    for listener in (native, web):
        threading.Thread(target=listener.serve_forever, args=(0.05,)).start()
    threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
    print(
        json.dumps({"native_port": native.port, "http_port": web.port, "version": engine.version}), flush=True
    )
    stop.wait()
    native.stop()
    web.stop()
    engine.close()


def _stop_at_end_of_input(stop: threading.Event) -> None:
    """A parent that dies, however it dies, closes its end; then there is nobody left to serve."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


if __name__ == "__main__":
    main()
