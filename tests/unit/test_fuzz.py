"""A minute of seeded fuzzing of everything that reads bytes which are not ours. [S4]

`python -m tools.fuzz --minutes 60` is the long one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fuzz import TARGETS, fuzz, targets

pytestmark = pytest.mark.long


SECONDS = 6.0
SEED = 13


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_it_is_given_it_ends_as_declared_and_soon(name: str, tmp_path: Path) -> None:
    with targets(tmp_path) as found:
        figures = fuzz(found[name], SECONDS, SEED)
    assert figures.inputs > 20
