"""Change data capture from a DuckDB file that another process is writing, into ClickHouse and anything else.

`open_source` opens a live file to query and to follow. `Replication` runs what `cdc run` runs, in a thread of
yours.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cdc.product import __version__

if TYPE_CHECKING:
    from cdc.app.replication import Replication
    from cdc.library import Change, Database, open_source

__all__ = ["Change", "Database", "Replication", "__version__", "open_source"]

_HOMES = {
    "Change": "cdc.library",
    "Database": "cdc.library",
    "Replication": "cdc.app.replication",
    "open_source": "cdc.library",
}
"""Loaded when they are first asked for: a command that needs none of them starts at once."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
