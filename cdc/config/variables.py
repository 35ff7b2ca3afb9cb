"""`${NAME}` and `${NAME:-default}` in the texts of a configuration file stand for environment variables.

As in a shell or a compose file, a default counts where the variable is not set or empty; `$${` is a `${` that
stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdc.errors import ConfigError

_REFERENCE = re.compile(r"\$(?P<itself>\$)?\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:-(?P<default>[^}]*))?\}")


def filled_in(data: Mapping[str, Any], path: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """`data` with the variables that its texts name in their places.

    Raises:
        ConfigError: one is not set and has no default, naming the key that asks for it.
    """
    return {key: _filled_in(value, key, path, environ) for key, value in data.items()}


def without_references(text: str) -> str:
    """What of the text stands in the file itself."""
    return _REFERENCE.sub("", text)


def _filled_in(value: object, key: str, path: Path, environ: Mapping[str, str]) -> object:
    if isinstance(value, Mapping):
        return {name: _filled_in(each, f"{key}.{name}", path, environ) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled_in(each, f"{key}[{at}]", path, environ) for at, each in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def stands_for(found: re.Match[str]) -> str:
        name, default = found["name"], found["default"]
        if found["itself"]:
            return found[0][1:]
        if not (text := environ.get(name, "") or default or "") and default is None:
            raise ConfigError(
                "use the configuration",
                path,
                f"{key} names the environment variable {name}, which is not set",
                f"Set it, or write ${{{name}:-default}}; $${{{name}}} is the text itself",
            )
        return text

    return _REFERENCE.sub(stands_for, value)
