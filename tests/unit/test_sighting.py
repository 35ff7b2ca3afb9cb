"""Whether a table of the target is the one that rows were delivered to is judged by what cannot be wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdc.sighting import MOST_HOSTS, Known, Sighting, Verdict, judge, rows_taken_away

MODERN = Sighting("a", uuid="1", made="10:00", rows=5, parts={"all": (1, 9)}, reached=9)
OLD = replace(MODERN, uuid="")


@pytest.mark.parametrize(
    ("known", "found", "verdict"),
    [
        (MODERN, MODERN, Verdict.SAME),
        (MODERN, replace(MODERN, made="11:00"), Verdict.SAME),  # altered: its UUID says that it is the same
        (MODERN, replace(MODERN, uuid="2"), Verdict.ANOTHER),
        (MODERN, None, Verdict.GONE),
        (MODERN, replace(MODERN, rows=0), Verdict.EMPTIED),
        (MODERN, replace(MODERN, rows=0, expires=True), Verdict.SAME),
        (MODERN, replace(MODERN, rows=None, parts=None), Verdict.SAME),
        (OLD, OLD, Verdict.SAME),
        (OLD, replace(OLD, made="11:00"), Verdict.ANOTHER),
        (MODERN, replace(MODERN, host="b"), Verdict.SAME),  # replicas share it
        (MODERN, replace(MODERN, host="b", uuid="2"), Verdict.ANOTHER),
        (OLD, replace(OLD, host="b", made="11:00"), Verdict.SAME),  # another server: nothing tells them apart
        (None, MODERN, Verdict.SAME),
    ],
)
def test_a_table_is_told_from_another(
    known: Sighting | None, found: Sighting | None, verdict: Verdict
) -> None:
    remembered = Known({}) if known is None else Known({}).with_(known)
    assert judge(Known.from_json(remembered.to_json()), found, delivered=True) is verdict


def test_an_empty_table_that_nothing_was_delivered_to_is_as_it_should_be() -> None:
    assert judge(Known({}), replace(MODERN, rows=0), delivered=False) is Verdict.SAME


def test_a_few_servers_are_remembered_and_those_seen_last_stay() -> None:
    known = Known({})
    for number in range(2 * MOST_HOSTS):
        known = known.with_(replace(MODERN, host=str(number)))
    assert list(known.hosts) == [str(number) for number in range(MOST_HOSTS, 2 * MOST_HOSTS)]


@pytest.mark.parametrize(
    ("now", "taken"),
    [
        ({"all": (1, 9)}, False),
        ({"all": (1, 12)}, False),
        ({"all": (1, 12), "more": (13, 13)}, False),
        ({"all": (4, 12)}, True),
        ({"more": (13, 13)}, True),
        ({"all": (1, 7)}, True),
        ({}, True),
    ],
)
def test_parts_tell_that_rows_were_taken_away_and_merges_do_not(
    now: dict[str, tuple[int, int]], taken: bool
) -> None:
    assert rows_taken_away(MODERN, replace(MODERN, parts=now)) is taken


@pytest.mark.parametrize(
    ("before", "now", "taken"),
    [
        ({}, {"all": (1, 1)}, False),
        ({}, {"all": (2, 2)}, True),  # the first block came and went
        ({"a": (1, 9)}, {"a": (1, 9), "b": (10, 11)}, False),
        ({"a": (1, 9)}, {"a": (1, 9), "b": (11, 11)}, True),
        ({"a": (1, 9)}, {"a": (1, 10), "b": (11, 11)}, False),
    ],
)
def test_a_block_that_came_and_went_between_two_looks_was_taken_away(
    before: dict[str, tuple[int, int]], now: dict[str, tuple[int, int]], taken: bool
) -> None:
    seen = replace(MODERN, parts=before, reached=max((last for _, last in before.values()), default=0))
    assert rows_taken_away(seen, replace(MODERN, parts=now)) is taken


def test_an_emptied_table_goes_on_with_its_block_numbers() -> None:
    emptied = replace(MODERN, rows=0, parts={}, reached=0).after(MODERN)
    assert not rows_taken_away(emptied, replace(MODERN, parts={"all": (10, 10)}))
    assert rows_taken_away(emptied, replace(MODERN, parts={"all": (11, 11)}))


def test_parts_of_another_server_or_of_rows_that_expire_tell_nothing() -> None:
    assert not rows_taken_away(MODERN, replace(MODERN, host="b", parts={}))
    assert not rows_taken_away(MODERN, replace(MODERN, expires=True, parts={}))
    assert not rows_taken_away(MODERN, replace(MODERN, parts=None))
