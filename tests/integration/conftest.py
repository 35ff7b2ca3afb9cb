"""Tables of live writers whose log is followed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.followed import Followed
from tests.support.writers import VERSIONS


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    with ExitStack() as stack:
        yield Followed(tmp_path / "t.db", stack)


@pytest.fixture(params=VERSIONS)
def versions(followed: Followed, request: pytest.FixtureRequest) -> Followed:
    """Followed, with a writer of each version in turn."""
    followed.write(request.param)
    followed.create()
    followed.follow()
    return followed


@pytest.fixture
def current(followed: Followed) -> Followed:
    followed.write(VERSIONS[-1])
    followed.create()
    followed.follow()
    return followed
