"""Where a program's output goes: a file it appends to by itself, rotated under it.

The program holds the file open, also while no supervisor runs, so rotation copies and truncates. What is
written between the last copied byte and the truncation would be lost: the copy is repeated until nothing new
came, which leaves a window of microseconds.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import IO

from cdc.private import open_private, replace

MIB = 1 << 20


class RotatedLog:
    """A log of at most about `max_mb`, with `keep` older ones beside it: `.1` is the newest."""

    def __init__(self, path: Path, max_mb: int, keep: int) -> None:
        self.path = path
        self._max = max_mb * MIB
        self._keep = keep

    def __repr__(self) -> str:
        return f"RotatedLog({self.path})"

    def rotate_if_full(self) -> bool:
        """Rotate once the file reached its size.

        Raises:
            OSError: the file system refused, for want of space for instance; the log is as it was.
        """
        try:
            if self.path.stat().st_size < self._max:
                return False
        except FileNotFoundError:
            return False
        fresh = self.numbered(0)
        try:
            with self.path.open("r+b") as source, _made(fresh) as copy:
                shutil.copyfileobj(source, copy, MIB)
                while rest := source.read():
                    copy.write(rest)
                source.truncate(0)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        for number in range(self._keep, 0, -1):
            newer = self.numbered(number - 1)
            if newer.exists():
                replace(newer, self.numbered(number))
        return True

    def numbered(self, number: int) -> Path:
        """The path of an older log; 0 is the copy being made."""
        return self.path.with_name(f"{self.path.name}.{number}")


def _made(path: Path) -> IO[bytes]:
    return open(open_private(path, os.O_WRONLY | os.O_TRUNC), "wb")
