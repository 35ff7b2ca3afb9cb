"""Who the one active replicator of a source is: a file lock, and beside it a note saying whose it is.

The operating system frees the lock when its process ends, however it ends; the note is for people and decides
nothing. Should the lock be got round (a lock file removed by hand), the epoch in the store still keeps the
overtaken replicator from committing: see `cdc.watermark.marks`.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, Self

import filelock
import psutil

from cdc.clock import Clock, SystemClock
from cdc.errors import LeaseHeld, StateError
from cdc.private import open_private, private_directory

STANDBY_SECONDS = 1.0
"""How often a standby tries: a lock call a second costs nothing, and it takes over well within ten."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds, or held, a lease."""

    pid: int
    started_at: float
    """When the process started, seconds since 1970: a pid alone may have passed to another process."""
    host: str
    since: float
    """When it took the lease, seconds since 1970."""

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        return f"process {self.pid} on {self.host} since {since}"

    @classmethod
    def of_this_process(cls, since: float) -> Self:
        return cls(os.getpid(), psutil.Process().create_time(), socket.gethostname(), since)

    def alive(self) -> bool:
        """Whether that very process still runs; one on another host is taken to."""
        if self.host != socket.gethostname():
            return True
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started_at) < 1.0
        except psutil.Error:
            return False


class Lease:
    """The right to replicate one source from this state directory. A context manager; used by one process.

    It promises that no two processes on this machine hold it at once. It does not promise that a process
    which held it a moment ago has no insert under way: the target is idempotent for that.
    """

    def __init__(self, directory: Path, source: str, *, clock: Clock | None = None) -> None:
        self.source = source
        self._clock = clock or SystemClock()
        self._path = _path(directory, source)
        self._lock = filelock.FileLock(self._path, timeout=0, mode=0o600, thread_local=False)

    def __repr__(self) -> str:
        return f"Lease({self._path}, {'held' if self.held else 'not held'})"

    @property
    def held(self) -> bool:
        return bool(self._lock.is_locked)

    def acquire(self) -> None:
        """Take the lease, or say who has it.

        Raises:
            LeaseHeld: another process has it.
            StateError: the lock file cannot be used.
        """
        if not self._try():
            raise _held(self.source, _read(self._path))

    def standby(self, stop: threading.Event) -> bool:
        """Wait for the lease until it is taken (True) or `stop` is set (False).

        Raises:
            StateError: the lock file cannot be used.
        """
        while not self._try():
            if self._clock.wait(stop, STANDBY_SECONDS):
                return False
        return True

    def release(self) -> None:
        """Give the lease up; the note goes first, for a moment later it would be another's."""
        if self.held:
            _note(self._path).unlink(missing_ok=True)
        self._lock.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _try(self) -> bool:
        if self.held:  # the lock counts its acquisitions; one release is to end it
            return True
        try:
            private_directory(self._path.parent)
            os.close(open_private(self._path, os.O_RDWR))
            self._lock.acquire()
        except filelock.Timeout:
            return False
        except OSError as error:
            raise _unusable(self._path, error) from error
        try:
            self._write_note()
        except OSError as error:
            self._lock.release()
            raise _unusable(self._path, error) from error
        return True

    def _write_note(self) -> None:
        owner = Owner.of_this_process(self._clock.wall())
        note = _note(self._path)
        written = note.with_suffix(".new")
        written.write_text(json.dumps(asdict(owner)), encoding="utf-8")
        written.replace(note)


def holder(directory: Path, source: str) -> Owner | None:
    """Who holds the lease of `source`, as far as its note tells; None if nobody seems to.

    For status: it takes no lock, so it never stands in the way of a replicator that starts.
    """
    owner = _read(_path(directory, source))
    return owner if owner is not None and owner.alive() else None


def _path(directory: Path, source: str) -> Path:
    digest = hashlib.blake2b(source.encode(), digest_size=8).hexdigest()
    return directory / f"lease-{digest}.lock"


def _note(path: Path) -> Path:
    """Beside the lock file, not in it: Windows lets nobody read a file that is locked."""
    return path.with_suffix(".json")


def _read(path: Path) -> Owner | None:
    try:
        note = json.loads(_note(path).read_text(encoding="utf-8"))
        return Owner(int(note["pid"]), float(note["started_at"]), str(note["host"]), float(note["since"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _held(source: str, owner: Owner | None) -> LeaseHeld:
    who = str(owner) if owner is not None and owner.alive() else "a process that has not said which"
    return LeaseHeld(
        "take the lease of the source",
        source,
        f"held by {who}",
        "Stop that replicator, or leave it to do the work",
    )


def _unusable(path: Path, error: OSError) -> StateError:
    return StateError(
        "take the lease",
        path,
        str(error.strerror or error),
        "Let this user write to that directory, or set another as [state] directory",
    )


class HeldLease(Protocol):
    """What the marks need of a lease."""

    @property
    def source(self) -> str: ...

    @property
    def held(self) -> bool: ...


class Leases:
    """Several leases of one source, to be held together."""

    def __init__(self, *leases: HeldLease) -> None:
        self._leases = leases
        self.source = leases[0].source

    def __repr__(self) -> str:
        return f"Leases({', '.join(map(repr, self._leases))})"

    @property
    def held(self) -> bool:
        return all(lease.held for lease in self._leases)
