"""Beside which name of the file does its log lie, if the path is a symbolic link?

DuckDB before 2.0 puts the log beside the name that the writer opened, later ones beside the end of all links;
a link that led nowhere when the writer opened it has its log beside itself, too. So it is looked for beside
every name that the links lead over. What a crash or another version left beside one of them may be there
besides the log at hand: that one is of this database, follows its newest checkpoint, and was written last.

Links in the directories of a path make no difference, for file and log are looked for in the same one. The
other names of a file with several hard links cannot be found by it.
"""

from __future__ import annotations

import os
from pathlib import Path

from cdc.source.format.headers import Headers
from cdc.source.format.log import parse_log_header

LOG = ".wal"
CHECKPOINT_LOG = ".wal.checkpoint"
"""What commits are written to while a checkpoint runs (DuckDB 2.0); it then replaces the log."""

_MOST_LINKS = 40
"""As many as Linux follows."""
_HEAD_BYTES = 512


def names_of(path: Path | str) -> tuple[str, ...]:
    """The path, and what it leads over if it is a symbolic link; its end is the last."""
    name = os.fspath(path)
    names = [name]
    # Asked before it is read, for each pin asks: what readlink() raises where there is no link costs more.
    while len(names) <= _MOST_LINKS and os.path.islink(name):
        try:
            # Not normalized: `..` is for the file system to follow, which may have come here over a link.
            name = os.path.join(os.path.dirname(name), os.readlink(name))
        except OSError:  # gone since
            break
        names.append(name)
    return tuple(names)


def place_of_logs(names: tuple[str, ...], headers: Headers) -> str:
    """That of `names` beside which the logs of the database with these `headers` lie; the last, without any.

    For the price of a look at what exists, unless there are logs beside several of them.
    """
    if len(names) == 1:
        return names[0]
    there = [name for name in names if any(os.path.exists(name + suffix) for suffix in (LOG, CHECKPOINT_LOG))]
    if len(there) < 2:
        return there[0] if there else names[-1]
    return max(there, key=lambda name: max(_rank(name + suffix, headers) for suffix in (LOG, CHECKPOINT_LOG)))


def _rank(log: str, headers: Headers) -> tuple[bool, bool, int]:
    """How well the log fits: it is this database's, it follows its newest checkpoint, and how new it is."""
    try:
        with open(log, "rb") as file:
            header = parse_log_header(file.read(_HEAD_BYTES))
            written = os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return False, False, 0
    if header is None:
        return False, False, written
    own = header.identifier in (None, headers.identifier)
    active = headers.active
    newest = active is None or header.iteration is None or header.iteration >= active.iteration
    return own, newest, written
