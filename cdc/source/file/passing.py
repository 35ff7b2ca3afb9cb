"""Which logs came and went between two looks, and did they hold a commit?

A log can be there for two milliseconds. DuckDB 2.0.1 makes one for a commit that skips the log: it has
nothing but the marker of the checkpoint that the commit goes into. DuckDB 2.0.0 made none. Once such a log is
gone, nothing in the files tells it from one that held commits. So each log is opened when it comes, which the
file system tells at once, and what is open can be read after it is gone. A log that could not be opened in
time counts as missed: then it stays unknown what was in it.

The kernel's queue is read here, and not through watchdog, which hands events on through three threads and is
turned off while changes follow one another (see `watch`). Only Linux has it; elsewhere every log is missed.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from cdc.source.file.regular import open_regular
from cdc.source.format import frames
from cdc.source.format.log import FRAMED, parse_log_header, reader_at

_CREATED, _MOVED_HERE, _OVERFLOW, _IGNORED = 0x100, 0x80, 0x4000, 0x8000
"""Of <sys/inotify.h>: a file was created, or renamed to this name; events were lost; the watch has ended."""
_EVENT = struct.Struct("iIII")
_QUEUE_BYTES = 1 << 16
_HEAD_BYTES = 512
_MOST_LOGS = 1_024
"""That are remembered: more checkpoints than that between two looks are as good as a miss."""


class PassingLogs:
    """Opens each log that comes to stand at `path`. Safe to use from several threads.

    At most one log is kept open, the newest, also when it was removed.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            OSError: this system, or this directory, does not tell of new files.
        """
        self._path = path
        self._name = os.fsencode(path.name)
        self._lock = threading.Lock()
        self._held: int | None = None
        self._without_commit: dict[int, bool] = {}
        """By the checkpoint that a log follows: whether it held nothing but the next checkpoint's marker."""
        self._missed = 0
        self._queue = _watch(path.parent)
        self._end = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="passing logs", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"PassingLogs({self._path}, {self._missed} missed)"

    @property
    def missed(self) -> int:
        """How many logs came that could not be opened, or that cannot be told, as far as is known by now."""
        return self._missed

    def held_no_commit(self, first: int, stop: int, missed: int) -> bool:
        """Whether the logs that followed the checkpoints `first` to `stop - 1` were all opened, and none held
        a commit. `missed` is what was known to be missed before the first of them came."""
        with self._lock:
            self._catch_up()
            held = self._with_held()
            return self._missed == missed and all(held.get(number, False) for number in range(first, stop))

    def close(self) -> None:
        if self._end < 0:
            return
        os.eventfd_write(self._end, 1)
        self._thread.join()
        with self._lock:
            self._let_go()
            os.close(self._queue)
            os.close(self._end)
            self._queue = self._end = -1

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._queue, select.POLLIN)
        poll.register(self._end, select.POLLIN)
        while self._end not in {file for file, _ in poll.poll()}:
            with self._lock:
                self._catch_up()

    def _catch_up(self) -> None:
        """Open what the kernel told of by now."""
        for mask, name in self._events():
            if mask & (_OVERFLOW | _IGNORED):
                self._missed += 1
            elif name == self._name:
                self._came()

    def _events(self) -> Iterator[tuple[int, bytes]]:
        while self._queue >= 0:
            try:
                raw = os.read(self._queue, _QUEUE_BYTES)
            except BlockingIOError:
                return
            at = 0
            while at < len(raw):
                _, mask, _, size = _EVENT.unpack_from(raw, at)
                at += _EVENT.size
                yield mask, raw[at : at + size].rstrip(b"\0")
                at += size

    def _came(self) -> None:
        try:
            file = open_regular(self._path)
        except OSError:
            self._missed += 1
            return
        if self._held is not None:
            if os.path.samestat(os.fstat(file), os.fstat(self._held)):
                os.close(file)
                self._missed += 1  # the one before it: this one was opened when that one was told of
                return
            self._without_commit = self._with_held()
            self._let_go()
        self._held = file

    def _with_held(self) -> dict[int, bool]:
        """What is noted, and what the open log holds by now."""
        if self._held is None:
            return self._without_commit
        try:
            follows, without_commit = _look(self._held)
        except OSError:
            follows, without_commit = None, False
        if follows is None:
            return self._without_commit
        # A writer that recovers from a crash puts another log in the place of the one it finds.
        both = without_commit and self._without_commit.get(follows, True)
        older = list(self._without_commit.items())[-_MOST_LOGS:]
        return {**dict(older), follows: both}

    def _let_go(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None


def passing_logs(path: Path) -> PassingLogs | None:
    """Those at `path`; None where the system does not tell of new files."""
    if sys.platform != "linux":
        return None
    try:
        return PassingLogs(path)
    except OSError:
        return None


def _look(file: int) -> tuple[int | None, bool]:
    """The checkpoint that a log follows, if it says so, and whether it holds the next one's marker alone.

    Behind the marker stands one commit's, of nothing.
    """
    head = reader_at(file)(0, _HEAD_BYTES)
    header = parse_log_header(head)
    if header is None:
        return None, False
    if header.version != FRAMED:
        return header.iteration, False
    found = list(frames.read_frames(head, header.size))
    whole = header.size + sum(map(len, found)) == os.fstat(file).st_size
    kinds = [frames.kind(frame) for frame in found]
    return header.iteration, whole and kinds == [frames.CHECKPOINT, frames.COMMIT]


def _watch(directory: Path) -> int:
    """A queue of the kernel's that tells of files that come to be in `directory`."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if queue < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    if libc.inotify_add_watch(queue, os.fsencode(directory), _CREATED | _MOVED_HERE) < 0:
        number = ctypes.get_errno()
        os.close(queue)
        raise OSError(number, "inotify_add_watch", os.fspath(directory))
    return queue
