"""A network that misbehaves on purpose: a TCP proxy that cuts, delays, half-closes, truncates, swallows."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self

_PIECE = 1 << 16
_INSERT = b"INSERT INTO"
_END_OF_STREAM = b"\x05"
"""The packet by which a server says that a query is done. What it sends before, the block of the columns it
wants, ends with a type's name."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards connections to a port of 127.0.0.1. Each fault is in force until `heal`. Thread safe."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        """`host`: the address where it listens."""
        self._target = port
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open = threading.Event()
        self._open.set()
        self._refusing = False
        self._truncate_after: int | None = None
        self._answers_to_lose = 0
        self._closed = False
        self.delay_seconds = 0.0
        """Of each piece, in both directions."""
        self.connections = 0
        self.posts = 0
        """Requests of HTTP that posted something."""
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._open.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def heal(self) -> None:
        """End every fault; connections that hang go on."""
        self.delay_seconds = 0.0
        self._refusing = False
        self._truncate_after = None
        self._answers_to_lose = 0
        self._open.set()

    def cut(self) -> None:
        """Reset every connection; new ones are served."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _reset(end)

    def refuse(self) -> None:
        """Reset every connection, and new ones too."""
        self._refusing = True
        self.cut()

    def blackhole(self) -> None:
        """Connections stay open, new ones are accepted, and nothing gets through."""
        self._open.clear()

    def half_close(self) -> None:
        """End the direction from the server of every connection: clients read an end, and may still send."""
        with self._lock:
            for client, _ in self._pairs:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_WR)

    def truncate(self, after_bytes: int) -> None:
        """Let so many more bytes through to the server, then reset every connection: once."""
        self._truncate_after = after_bytes

    @property
    def truncating(self) -> bool:
        """Whether connections are still to be reset."""
        return self._truncate_after is not None

    def lose_answers(self, count: int = 1) -> None:
        """Of so many inserts that ClickHouse's native protocol brings: the server applies each, and its word
        of that is lost with every connection."""
        self._answers_to_lose = count

    @property
    def answers_to_lose(self) -> int:
        """How many are still to be lost."""
        return self._answers_to_lose

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                if self._refusing:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                _reset(client)
                continue
            with self._lock:
                self._pairs = [pair for pair in self._pairs if pair[0].fileno() >= 0]
                self._pairs.append((client, server))
            inserting = threading.Event()
            for source, sink, up in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(source, sink, up, inserting), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool, inserting: threading.Event) -> None:
        """`inserting`: an insert is under way on this connection."""
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                self._open.wait()
                self.posts += up and piece.startswith(b"POST ")
                if up and _INSERT in piece:
                    inserting.set()
                elif not up and inserting.is_set() and piece.endswith(_END_OF_STREAM):
                    inserting.clear()
                    if self._answers_to_lose:
                        self._answers_to_lose -= 1
                        self.cut()
                        return
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                left = self._truncate_after
                if up and left is not None:
                    if len(piece) > left:
                        self._truncate_after = None
                        sink.sendall(piece[:left])
                        self.cut()
                        return
                    self._truncate_after = left - len(piece)
                sink.sendall(piece)
        # One end is gone: so is the other, as a router in between would have it.
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        end.shutdown(socket.SHUT_RDWR)
    end.close()
