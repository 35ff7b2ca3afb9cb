"""How does the product make files? For its user alone, through no link, and in no directory of others.

Whoever may write a directory can put a link or another file in the place of one that is about to be made. On
Windows files inherit the access list of their directory; one that is made here is for its user, the system
and administrators.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cdc import access_list

_POSIX = os.name == "posix"
_SHARED_SECONDS = 2.0
"""How long a file is waited for on Windows that another process has open."""

Result = TypeVar("Result")


class Unsafe(OSError):
    """What is found there is not to be used; `strerror` says why, with the command that mends it."""

    def __init__(self, problem: str) -> None:
        super().__init__(0, problem)


def private_directory(path: Path) -> None:
    """Make the directory at `path`, and those it is in, where there are none, for this user alone.

    Raises:
        Unsafe: there is one that others may write.
        OSError: it cannot be made.
    """
    made = not path.exists()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if made:
        access_list.keep_to_user(path)
    refuse_writable(path)


def refuse_writable(path: Path) -> None:
    """
    Raises:
        Unsafe: others may write what is at `path`: a file, or a directory without the sticky bit.
    """
    if not _POSIX:
        if (others := access_list.others_who(access_list.WRITE, path)) is not None:
            raise Unsafe(f"{others} may write {path}; run: {access_list.remedy(path)}")
        return
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_ISVTX and stat.S_ISDIR(found.st_mode):
        return
    if mode & 0o002 or (mode & 0o020 and not _is_own_group(found.st_gid)):
        raise Unsafe(f"others may write {path} ({mode:04o}); run: chmod go-w {path}")


def open_private(path: Path, flags: int) -> int:
    """A descriptor of the file at `path`, which is made with `flags` for this user alone.

    Raises:
        Unsafe: a link is there, or a file of another user.
        OSError: it cannot be opened.
    """
    if path.is_symlink():
        raise Unsafe(f"{path} is a link; remove it")
    extra = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    file = os.open(path, flags | os.O_CREAT | extra, 0o600)
    if _POSIX and os.fstat(file).st_uid not in (os.geteuid(), 0):
        os.close(file)
        raise Unsafe(f"{path} is another user's; remove it")
    return file


def replace(fresh: Path, path: Path) -> None:
    """Put the file at `fresh` in the place of the one at `path`, which may be being read.

    Raises:
        OSError: it cannot be replaced; on Windows also while another process keeps it open.
    """
    _once_free(lambda: os.replace(fresh, path))


def read_replaced(path: Path) -> bytes:
    """What the file at `path` holds, which may be being replaced.

    Raises:
        OSError: it cannot be read.
    """
    return _once_free(path.read_bytes)


def _once_free(work: Callable[[], Result]) -> Result:
    """What `work` answers; tried again for a while on Windows, which lets nobody replace an open file."""
    deadline = time.monotonic() + _SHARED_SECONDS
    while True:
        try:
            return work()
        except PermissionError:
            if _POSIX or time.monotonic() >= deadline:
                raise
            time.sleep(0.005)


def _is_own_group(group: int) -> bool:
    """Whether it is the group that has this user's name and nobody else: many systems make files for it."""
    import grp
    import pwd

    try:
        found, user = grp.getgrgid(group), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return user.pw_gid == group and found.gr_name == user.pw_name and set(found.gr_mem) <= {user.pw_name}
