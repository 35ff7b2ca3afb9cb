"""The Rust writer's binary for tests; without cargo or npm the tests that need it fail, and say why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.rust_writer.build import build


@pytest.fixture(scope="session")
def rust_writer_binary() -> Path:
    """The path of the binary, built when its sources are newer than it."""
    return build()
