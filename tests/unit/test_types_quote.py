"""Quoting for ClickHouse: whatever a name holds stays a name [S6]."""

from __future__ import annotations

import pytest

from cdc.target.quote import canonical_type, quote_element, quote_identifier, quote_string


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("trades", "`trades`"),
        ("a`; DROP TABLE t; --", "`a\\`; DROP TABLE t; --`"),
        ("back\\slash", "`back\\\\slash`"),
        ("line\nbreak\0", "`line\\nbreak\\0`"),
    ],
)
def test_an_identifier_cannot_end_its_own_quotes(name: str, quoted: str) -> None:
    assert quote_identifier(name) == quoted


def test_an_empty_identifier_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        quote_identifier("")


def test_a_string_cannot_end_its_own_quotes() -> None:
    assert quote_string("it's \\ `x`") == "'it\\'s \\\\ `x`'"


def test_an_element_is_quoted_only_where_clickhouse_would() -> None:
    names = ["a1", "_x", "select", "NULL", "1a", "b c", "date"]
    assert [quote_element(name) for name in names] == [
        "a1",
        "_x",
        "`select`",
        "`NULL`",
        "`1a`",
        "`b c`",
        "date",
    ]


def test_two_spellings_of_a_type_are_the_same_type() -> None:
    printed = "Tuple(\n    `a` Int32,\n    `b c` Nullable(String),\n    t DateTime64(6, 'UTC'))"
    assert canonical_type(printed) == "Tuple(a Int32, `b c` Nullable(String), t DateTime64(6, 'UTC'))"


def test_what_stands_in_quotes_belongs_to_the_type() -> None:
    assert canonical_type("Enum8('a  `b`' = 1)") == "Enum8('a  `b`' = 1)"
    assert canonical_type("Tuple(`a  b` Int8)") != canonical_type("Tuple(`a b` Int8)")
