"""A state store in a directory of the test's own, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc.state import Lease, Store, open_store
from cdc.watermark import BoundMarks, bind
from tests.support.clock import FakeClock
from tests.support.stored import SOURCE, FakeLease, plan


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=1_000.0)


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> Iterator[Store]:
    with open_store(tmp_path, clock=clock) as store:
        yield store


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Lease]:
    with Lease(tmp_path, SOURCE) as lease:
        yield lease


@pytest.fixture
def marks(store: Store) -> BoundMarks:
    marks = bind(store, SOURCE, FakeLease())
    marks.describe(plan())
    return marks
