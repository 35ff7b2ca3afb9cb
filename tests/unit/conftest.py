"""Tests here start no process and no server, so that all of them take a minute: `tools/test.sh --fast`."""

from __future__ import annotations

import os
import subprocess
from typing import Any, NoReturn

import pytest


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that starts a process fails: it belongs to tests/integration."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("a test below tests/unit starts a process; move it to tests/integration")

    monkeypatch.setattr(subprocess.Popen, "_execute_child", refuse)
    for name in ("fork", "posix_spawn"):
        if hasattr(os, name):
            monkeypatch.setattr(os, name, refuse)
