"""Server versions: what is parsed, how they are ordered, and which release brought what."""

from __future__ import annotations

from datetime import date

import pytest

from cdc.errors import Meaning, TargetError
from cdc.target.version import ServerVersion


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("18.16.1", ServerVersion(18, 16, 1)),
        ("26.9.2.1", ServerVersion(26, 9, 2)),
        ("24.8.4.13-stable", ServerVersion(24, 8, 4)),
        ("v21.3", ServerVersion(21, 3, 0)),
    ],
)
def test_a_version_is_parsed_from_what_servers_answer(text: str, version: ServerVersion) -> None:
    assert ServerVersion.parse(text) == version


def test_an_answer_that_is_no_version_stops_with_what_was_read() -> None:
    with pytest.raises(TargetError, match="'nginx'") as raised:
        ServerVersion.parse("nginx")
    assert raised.value.meaning is Meaning.STOP


def test_versions_are_ordered_by_number_not_by_text() -> None:
    texts = ["9.1.0", "18.16.1", "20.3.0", "20.10.0", "26.9.2"]
    versions = [ServerVersion.parse(text) for text in texts]
    assert sorted(versions) == versions
    assert ServerVersion(9, 1) < ServerVersion(18, 16) < ServerVersion(18, 16, 1)
    assert [str(version) for version in versions] == texts


FEATURES = (
    "has_bool",
    "has_date32",
    "has_datetime64",
    "has_int128",
    "has_low_cardinality",
    "has_map",
    "has_nested_tuple",
    "has_time64",
)


def test_the_oldest_release_has_none_of_the_newer_types() -> None:
    assert [name for name in FEATURES if getattr(ServerVersion(18, 16, 1), name)] == []


def test_the_newest_release_has_all_of_them() -> None:
    assert [name for name in FEATURES if not getattr(ServerVersion(26, 9), name)] == []


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("18.16", date(1970, 1, 1), date(2105, 12, 31)),
        ("21.4", date(1925, 1, 1), date(2282, 12, 31)),
        ("24.8", date(1900, 1, 1), date(2299, 12, 31)),
        ("26.9", date(1, 1, 1), date(9999, 12, 31)),
    ],
)
def test_the_range_of_dates_grew_with_the_releases(text: str, first: date, last: date) -> None:
    assert ServerVersion.parse(text).datetime64_range == (first, last)
