"""What the next supervisor must know of the programs: who runs, and what was decided about who does not.

A JSON file, replaced whole and synced before a program is started and after, so that a supervisor killed at
any moment leaves enough to find every program again. Times are wall-clock seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cdc.errors import StateError
from cdc.private import open_private, replace
from cdc.supervisor.states import State

VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One program. With `mark` and no `pid`, it was about to be started; with both, it ran."""

    state: State
    reason: str = ""
    mark: str | None = None
    pid: int | None = None
    start: str | None = None
    held: bool = False
    unclean: bool = False
    stop: bool = False
    """It is being stopped, for good."""
    restarts: tuple[float, ...] = ()


_ENTRIES = TypeAdapter(dict[str, Entry])


class Record:
    """The record at `path`. Only the holder of the supervisor's lock may use it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: bytes | None = None

    def __repr__(self) -> str:
        return f"Record({self._path})"

    def load(self) -> dict[str, Entry]:
        """The entries of the last supervisor; none if there was none.

        Raises:
            StateError: the file is damaged; starting anything could start a second copy.
        """
        try:
            content = json.loads(self._path.read_bytes())
            if content["version"] != VERSION:
                raise ValueError(f"version {content['version']}")
            return _ENTRIES.validate_python(content["programs"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise StateError(
                "read the record of supervised programs",
                self._path,
                f"{type(error).__name__}",
                "Make sure that none of the programs runs, then remove the file.",
            ) from error

    def save(self, entries: Mapping[str, Entry]) -> None:
        """Store the entries durably; nothing is written if nothing changed.

        Raises:
            StateError: they were not stored.
        """
        programs = {name: asdict(entry) | {"state": entry.state.value} for name, entry in entries.items()}
        content = json.dumps({"version": VERSION, "programs": programs}, indent=1).encode()
        if content == self._last:
            return
        try:
            replace_file(self._path, content, sync=True)
        except OSError as error:
            raise StateError(
                "store the record of supervised programs",
                self._path,
                error.strerror or type(error).__name__,
                "Free space in the supervisor's directory, or mend its permissions.",
            ) from error
        self._last = content


def replace_file(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write `content` so that a reader sees the old file or the new one, never a part."""
    fresh = path.with_name(f"{path.name}.new")
    descriptor = open_private(fresh, os.O_WRONLY | os.O_TRUNC)
    with open(descriptor, "wb") as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    replace(fresh, path)
