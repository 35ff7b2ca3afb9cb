"""What a crashed program left in its files: they are checked, and damaged ones are set aside, never deleted.

The check is a command of its own, so that a file that breaks its reader cannot break the supervisor. [P7]
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cdc.config.programs import FileCheckConfig
from cdc.supervisor import command
from cdc.supervisor.machine import FileVerdict


def check_files(
    config: FileCheckConfig, config_path: Path | None, environment: Mapping[str, str], wall: float
) -> tuple[FileVerdict, str]:
    """Run the check; set damaged files aside and restore them, as far as configured.

    `wall` names the files set aside. Returns the verdict and, for a person, what was found and done.
    """
    arguments = command.expand(config.command, config_path)
    done = command.run(arguments, config.timeout_sec, environment=environment)
    if done.code == 0:
        return FileVerdict.SOUND, done.output
    if done.code not in config.corrupt_exit_codes:
        ending = done.output if done.code is None else f"exit code {done.code}: {done.output}"
        return FileVerdict.UNKNOWN, f"its files could not be checked: {ending}"
    try:
        aside = set_aside(config.set_aside, wall)
    except OSError as error:
        problem = f"{error.filename} could not be set aside: {error.strerror}"
        return FileVerdict.CORRUPT, f"its files are damaged ({done.output}), and {problem}"
    kept = f"set aside as {', '.join(map(str, aside))}" if aside else "left in place"
    found = f"its files are damaged ({done.output}), and {kept}"
    if config.restore is None:
        return FileVerdict.CORRUPT, found
    arguments = command.expand(config.restore.command, config_path)
    restored = command.run(arguments, config.restore.timeout_sec, environment=environment)
    if restored.code == 0:
        return FileVerdict.RESTORED, f"{found}; a backup was restored: {restored.output}"
    return FileVerdict.CORRUPT, f"{found}; the restore failed: {restored.output}"


def set_aside(paths: Sequence[Path], wall: float) -> list[Path]:
    """Rename those of `paths` that exist, to names that say when, and that are free.

    Raises:
        OSError: a file could not be renamed; those before it were.
    """
    moved = []
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall))
    suffix = next(
        suffix
        for suffix in (
            f"damaged-{stamp}{more}" for more in ("", *(f"-{number}" for number in range(2, 1000)))
        )
        if not any(_aside(path, suffix).exists() for path in paths)
    )
    for path in paths:
        if path.exists():
            os.rename(path, _aside(path, suffix))
            moved.append(_aside(path, suffix))
    return moved


def _aside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")
