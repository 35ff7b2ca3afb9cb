"""What a TOML file of the configuration holds, or where exactly it is wrong."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from cdc import access_list
from cdc.errors import ConfigError
from cdc.private import Unsafe, refuse_writable


def read_toml(path: Path, *, secret: bool = False) -> dict[str, Any]:
    """The tables of the file at `path`; a UTF-8 byte order mark is allowed.

    Args:
        secret: refuse a file that others than its owner may read or write. [S7]

    Raises:
        ConfigError: the file is missing, unreadable, open to others, or not TOML; the last with its line.
    """
    what = "read the secrets" if secret else "read the configuration"
    try:
        with path.open("rb") as file:
            if secret:
                _refuse_linked(path)
            if secret:
                _refuse_loose(path, os.fstat(file.fileno()).st_mode)
            else:
                refuse_writable(path)
            content = file.read()
    except FileNotFoundError:
        raise ConfigError(
            what, path, "there is no such file", "Name it with --config or CDC_CONFIG"
        ) from None
    except Unsafe as error:
        problem, _, remedy = str(error.strerror).partition("; ")
        raise ConfigError(what, path, problem, remedy[:1].upper() + remedy[1:]) from None
    except OSError as error:
        raise ConfigError(
            what, path, error.strerror or type(error).__name__, "Make the file readable for this user"
        ) from None
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(what, path, f"line {line} is not UTF-8", "Save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        backslash = "escape" in str(error) or "'\\\\'" in str(error)
        raise ConfigError(
            what,
            path,
            f"not valid TOML: {error}",
            "Write paths with forward slashes: C:/TradeSystem/Data" if backslash else "Correct that line",
        ) from None


def refuse_open_key(path: Path | None) -> None:
    """Refuse a private key that others than its owner may read or write.

    Raises:
        ConfigError: it is such a one.
    """
    if path is not None and path.exists():
        _refuse_loose(path, path.stat().st_mode, "use the key")


def _refuse_linked(path: Path) -> None:
    """A link within its directory is how mounted secrets are exchanged; elsewhere, others may exchange it."""
    if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
        raise ConfigError(
            "read the secrets", path, f"it is a link to {path.resolve()}", "Put the file itself there"
        )


def _refuse_loose(path: Path, mode: int, what: str = "read the secrets") -> None:
    if os.name != "posix":
        others = access_list.others_who(access_list.READ | access_list.WRITE, path)
        if others is not None:
            problem = f"its access list lets {others} read or change it"
            raise ConfigError(what, path, problem, f"Run: {access_list.remedy(path)}")
        return
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            what,
            path,
            f"its permissions ({stat.S_IMODE(mode):04o}) let other users read or change it",
            f"Run: chmod 600 {path}",
        )
