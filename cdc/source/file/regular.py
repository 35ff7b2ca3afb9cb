"""How is a file opened that others put there? For reading, without waiting, and only if it is a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_READING = (
    os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
)
"""Opening a FIFO would wait for whoever writes to it."""


def open_regular(path: str | Path) -> int:
    """A descriptor of the file at `path`.

    Raises:
        OSError: there is none, it may not be read, or it is a FIFO, a device, a directory, a socket.
    """
    file = os.open(path, _READING)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(f"{path} is not a regular file")
    return file
