"""How does DuckDB read a file that another process has locked? As served files, from a pin's bytes.

DuckDB takes no lock on files of a registered fsspec filesystem. Every read of the database file goes through
`Pin.read`, which compares the headers after it; the logs are served from the pin as well.
"""

from __future__ import annotations

import io

from cdc.source.file.pin import Pin
from cdc.source.file.served import Served


def files_of(pin: Pin) -> dict[str, Served]:
    """What DuckDB finds when it attaches `pin`, by name: the database as `pin.path.name`, and its logs."""
    name = pin.path.name
    files = {name: Served(lambda: pin.size, lambda: _DatabaseFile(pin))}
    for suffix, log in pin.logs.items():
        files[name + suffix] = Served(
            lambda log=log: log.size,  # type: ignore[misc]
            lambda suffix=suffix: io.BytesIO(pin.read_log(suffix)),  # type: ignore[misc]
        )
    return files


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
