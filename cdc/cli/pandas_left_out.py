"""Keeps pandas out of the processes of `cdc`.

pyarrow and DuckDB import pandas wherever it is installed, and the embedded engine brings it along. Nothing
here hands it anything, and it takes a second of a processor at each start, and memory. pyarrow does without
it: its shim takes `ImportError` for "not installed" (pyarrow/pandas-shim.pxi, `_check_import`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _NoPandas(MetaPathFinder):
    """The first finder that is asked; it refuses that one package, and leaves others to those after it."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the import system's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError("cdc runs without pandas", name=fullname)
        return None


def leave_pandas_out() -> None:
    """For a process that is `cdc`; one that imports `cdc` as a library keeps its pandas."""
    if not any(isinstance(finder, _NoPandas) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NoPandas())
