"""The table of error codes, held against a current engine. [R1]"""

from __future__ import annotations

import pytest

from cdc.target.codes import KNOWN
from tests.support.places import Place


@pytest.mark.parametrize("any_place", ["embedded"], indirect=True)
def test_every_code_has_the_name_that_the_engine_gives_it(any_place: Place) -> None:
    listed = ", ".join(map(str, KNOWN))
    answer = any_place.query(
        f"SELECT code, errorCodeToName(code) FROM (SELECT arrayJoin([{listed}]) AS code)"
    )
    named = dict(line.split("\t") for line in answer.splitlines())
    assert named == {str(code): name for code, (name, _) in KNOWN.items()}
