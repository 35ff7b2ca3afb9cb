"""How does DuckDB read a file that another process has locked? As served files, from a pin's bytes.

DuckDB takes no lock on files of a registered fsspec filesystem. Every read of the database file goes through
`Pin.read`, which compares the headers after it; the logs are served from the pin as well.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from cdc.source.file.pin import Pin
from cdc.source.file.served import Served

_IN_MEMORY_BYTES = 64 << 20
"""Of a log: a larger one, which may be sparse, is not held in memory."""
_PIECE_BYTES = 1 << 20


def files_of(pin: Pin) -> dict[str, Served]:
    """What DuckDB finds when it attaches `pin`, by name: the database as `pin.path.name`, and its logs."""
    name = pin.path.name
    files = {name: Served(lambda: pin.size, lambda: _PinnedFile(pin.read, lambda: pin.size))}
    for suffix, log in pin.logs.items():
        files[name + suffix] = Served(
            lambda log=log: log.size,  # type: ignore[misc]
            lambda suffix=suffix, log=log: _opened_log(pin, suffix, log.size),  # type: ignore[misc]
        )
    return files


def _opened_log(pin: Pin, suffix: str, size: int) -> io.RawIOBase | io.BytesIO:
    """A log in memory, or a large one read by and by: DuckDB reads it in small pieces."""
    if size <= _IN_MEMORY_BYTES:
        return io.BytesIO(pin.read_log(suffix, 0, size))
    return io.BufferedReader(  # type: ignore[return-value]
        _PinnedFile(lambda offset, wanted: pin.read_log(suffix, offset, wanted), lambda: size), _PIECE_BYTES
    )


class _PinnedFile(io.RawIOBase):
    """A pinned file as a file object; of the database DuckDB seeks, then reads whole blocks."""

    def __init__(self, read_at: Callable[[int, int], bytes], size: Callable[[], int]) -> None:
        super().__init__()
        self._read_at = read_at
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size()}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        data = self._read_at(self._at, size if size >= 0 else self._size() - self._at)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
