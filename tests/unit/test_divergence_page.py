"""Does the page of what can make a copy diverge name tests that exist, and one for each kind?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "divergence.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:unit|integration|faults)/[\w/]+\.py)::(test_\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_a_test_that_the_page_names_exists(file: str, test: str) -> None:
    assert re.search(rf"^def {test}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE)


def test_every_row_of_the_page_names_a_test_and_the_kinds_are_numbered_without_a_gap() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
    assert all("::test_" in row for row in rows)
    numbers = [int(row.split()[1]) for row in rows if row.split()[1].isdigit()]
    assert numbers == list(range(1, 32))
