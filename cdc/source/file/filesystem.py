"""How does DuckDB read a file that another process has locked? Through this filesystem, from a pin's bytes.

DuckDB takes no lock on files of a registered fsspec filesystem. Every read of the database file goes through
`Pin.read`, which compares the headers after it; the logs are served from the pin as well. A path is
`cdc-live://NUMBER/NAME`, the number naming the pin, so that each snapshot attaches under a path of its own.
"""

from __future__ import annotations

import io
import itertools
import threading
from typing import Any

from fsspec import AbstractFileSystem

from cdc.source.file.pin import CHECKPOINT_LOG, LOG, Pin

PROTOCOL = "cdc-live"
_numbers = itertools.count(1)  # of all filesystems: DuckDB knows of attached paths across its databases


class LiveFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Serves pinned files, read-only. Safe to use from several threads."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self._pins: dict[int, Pin] = {}
        self._guard = threading.Lock()

    def add(self, pin: Pin) -> tuple[int, str]:
        """Serve `pin` until `remove`: its number, and the path to attach."""
        number = next(_numbers)
        with self._guard:
            self._pins[number] = pin
        return number, f"{PROTOCOL}://{number}/{pin.path.name}"

    def remove(self, number: int) -> None:
        with self._guard:
            self._pins.pop(number, None)

    def open(self, path: str, mode: str = "rb", **_: Any) -> io.RawIOBase:
        if mode != "rb":
            raise PermissionError(f"{path} is read-only")
        pin, suffix = self._find(path)
        return io.BytesIO(pin.read_log(suffix)) if suffix else _DatabaseFile(pin)  # type: ignore[return-value]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        pin, suffix = self._find(path)
        return {"name": path, "type": "file", "size": pin.logs[suffix].size if suffix else pin.size}

    def exists(self, path: str, **_: Any) -> bool:
        try:
            self._find(path)
        except FileNotFoundError:
            return False
        return True

    def isfile(self, path: str) -> bool:
        return self.exists(path)

    def _find(self, path: str) -> tuple[Pin, str]:
        """The pin that `path` names, and which of its files: "" or the suffix of a log."""
        number, _, name = path.removeprefix(f"{PROTOCOL}://").partition("/")
        with self._guard:
            pin = self._pins.get(int(number)) if number.isdecimal() else None
        if pin is not None and name == pin.path.name:
            return pin, ""
        for suffix in (LOG, CHECKPOINT_LOG):
            if pin is not None and suffix in pin.logs and name == pin.path.name + suffix:
                return pin, suffix
        raise FileNotFoundError(path)


class _DatabaseFile(io.RawIOBase):
    """The pinned database file as a file object; DuckDB seeks, then reads whole blocks."""

    def __init__(self, pin: Pin) -> None:
        super().__init__()
        self._pin = pin
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._pin.size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        data = self._pin.read(self._at, size if size >= 0 else self._pin.size - self._at)
        self._at += len(data)
        return data
