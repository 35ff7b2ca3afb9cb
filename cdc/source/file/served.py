"""How does DuckDB read bytes that are no file of its own? From one filesystem, while it attaches them.

A path is `cdc-live://TOKEN/NAME`. The token is a secret that is made anew each time, and the path is served
only for as long as DuckDB attaches it: it keeps open what it needs, so that nothing it evaluates afterwards
can read a path, even one it was told. There is one such filesystem for all connections, because DuckDB, once
confined, accepts no further one.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem

PROTOCOL = "cdc-live"


class Served(NamedTuple):
    """One file: its size, and how it is opened."""

    size: Callable[[], int]
    open: Callable[[], io.RawIOBase | io.BytesIO]


def in_memory(content: bytes) -> Served:
    """A file that is these bytes."""
    return Served(lambda: len(content), lambda: io.BytesIO(content))


def secret_name(kind: str) -> str:
    """A name for an attached database that nothing in a file can know."""
    return f"{kind}_{secrets.token_hex(16)}"


class ServedFiles(AbstractFileSystem):  # type: ignore[misc]
    """Serves files, read-only. Safe to use from several threads."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[str, Served] = {}
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def serving(self, files: Mapping[str, Served]) -> Iterator[str]:
        """Serve files of these names while the context lasts; the path of their directory, with a /."""
        directory = f"{PROTOCOL}://{secrets.token_hex(16)}/"
        with self._guard:
            for name, file in files.items():
                self._files[directory + name] = file
        try:
            yield directory
        finally:
            with self._guard:
                for name in files:
                    del self._files[directory + name]

    def open(self, path: str, mode: str = "rb", **_: Any) -> io.RawIOBase:
        if mode != "rb":
            raise PermissionError(f"{path} is read-only")
        return self._find(path).open()  # type: ignore[return-value]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "type": "file", "size": self._find(path).size()}

    def exists(self, path: str, **_: Any) -> bool:
        with self._guard:
            return path in self._files

    def isfile(self, path: str) -> bool:
        return self.exists(path)

    def glob(self, *_: Any, **__: Any) -> list[str]:
        """Nothing: what is served is not to be found."""
        return []

    def _find(self, path: str) -> Served:
        with self._guard:
            found = self._files.get(path)
        if found is None:
            raise FileNotFoundError("no such file")
        return found


FILES = ServedFiles()
"""What every DuckDB of the process reads through."""
