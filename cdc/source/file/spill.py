"""Where does DuckDB put what does not fit into memory? Into a directory for this user alone."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import psutil

from cdc.private import private_directory


def new_spill(parent: Path) -> Path | None:
    """A new directory within `parent`, both made for this user alone; those of ended processes are removed.

    None if this user may not write there: then what is read must fit into memory.
    """
    try:
        private_directory(parent)
        _remove_left(parent)
        made = parent / f"{os.getpid()}-{secrets.token_hex(8)}"
        made.mkdir(mode=0o700)
    except OSError:
        return None
    return made


def _remove_left(parent: Path) -> None:
    for left in parent.iterdir():
        process = left.name.partition("-")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)
