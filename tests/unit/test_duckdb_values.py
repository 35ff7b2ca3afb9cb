"""Watermark values against DuckDB itself: the same text, the same order, and refusals that show the form."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.duckdb_types.values import MarkType, Order, find_mark_type, mark_type
from cdc.errors import StateError

pytestmark = pytest.mark.long


TYPES = [
    *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"),
    *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"),
    *("DECIMAL(18,6)", "DECIMAL(38,0)", "DECIMAL(38,38)", "DECIMAL(5,5)", "DECIMAL(4,1)"),
    *("DATE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP", "TIMESTAMP_NS"),
    *("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS", "UUID", "VARCHAR"),
]


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def orders(name: str) -> st.SearchStrategy[Order]:
    """Orders of values the type has, from its ends to its middle."""
    if name == "VARCHAR":
        return st.text(alphabet=st.characters(exclude_categories=["Cs"])).map(lambda text: (0, text))
    if name == "UUID":
        return st.uuids().map(lambda value: (value.int, ""))
    if name.startswith("DECIMAL"):
        limit = 10 ** int(name[8:].split(",")[0]) - 1
        low, high = -limit, limit
    elif name == "DATE":
        low, high = -(2**31) + 1, 2**31 - 1
    elif name.startswith("TIMESTAMP"):
        digits = getattr(mark_type(name), "digits")  # noqa: B009 - only this type has it
        unit = 10 ** (6 - digits) if digits < 9 else 1
        lowest = -9_223_286_400_000_000_000 if digits == 9 else -9_223_372_022_400_000_000
        low, high = lowest // unit + 1, (2**63 - 2) // unit
    else:
        bits = {"TINY": 8, "SMALL": 16, "": 32, "BIG": 64, "HUGE": 128}[
            name.removeprefix("U").partition("INT")[0]
        ]
        low, high = (0, 2**bits - 1) if name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.one_of(st.integers(low, high), st.sampled_from([low, high])).map(lambda number: (number, ""))


@pytest.mark.parametrize("name", TYPES)
def test_text_and_order_are_those_of_duckdb(name: str, duck: duckdb.DuckDBPyConnection) -> None:
    kind = mark_type(name)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(orders(name), min_size=2, max_size=6))
    def check(values: list[Order]) -> None:
        texts = [kind.text(value) for value in values]
        casts = ", ".join(f"CAST(CAST(${n + 1} AS {name}) AS VARCHAR)" for n in range(len(texts)))
        assert list(duck.execute(f"SELECT {casts}", texts).fetchall()[0]) == texts
        assert [kind.order(text) for text in texts] == values
        unnested = f"SELECT unnest($1::VARCHAR[])::{name} AS v"
        ordered = duck.execute(f"SELECT v::VARCHAR FROM ({unnested}) ORDER BY v", [texts]).fetchall()
        assert [row[0] for row in ordered] == sorted(texts, key=kind.order)

    check()


@pytest.mark.parametrize("name", [name for name in TYPES if name.startswith(("DATE", "TIMESTAMP"))])
def test_infinity_is_past_every_moment(name: str, duck: duckdb.DuckDBPyConnection) -> None:
    kind = mark_type(name)
    texts = [
        "-infinity",
        kind.canonical("1970-01-01" + "T00:00Z" * ("TZ" in name or "ZONE" in name)),
        "infinity",
    ]
    assert [kind.order(text) for text in texts] == sorted(kind.order(text) for text in texts)
    assert [kind.canonical(text) for text in texts] == texts
    assert duck.execute(f"SELECT 'infinity'::{name}::VARCHAR").fetchone() == ("infinity",)


@pytest.mark.parametrize(
    ("name", "written", "canonical"),
    [
        ("BIGINT", "+007", "7"),
        ("DECIMAL(18,6)", "12.5", "12.500000"),
        ("DECIMAL(18,6)", "12.5000000000", "12.500000"),
        ("DECIMAL(3,3)", "0.1", ".100"),
        ("DECIMAL(3,0)", "5.", "5"),
        ("DATE", "2024-2-29", "2024-02-29"),
        ("TIMESTAMP", "2024-01-02", "2024-01-02 00:00:00"),
        ("TIMESTAMP", "2024-01-02T03:04", "2024-01-02 03:04:00"),
        ("TIMESTAMP_NS", "2024-01-02 03:04:05.123456700", "2024-01-02 03:04:05.1234567"),
        ("TIMESTAMP WITH TIME ZONE", "2024-01-02T00:30:00+01:00", "2024-01-01 23:30:00+00"),
        ("TIMESTAMP WITH TIME ZONE", "2024-01-02T00:30:00-0130", "2024-01-02 02:00:00+00"),
        ("TIMESTAMP WITH TIME ZONE", "2024-01-02T00:30:00.5Z", "2024-01-02 00:30:00.5+00"),
        ("UUID", "0192F7C4-0000-7000-8000-00000000000A", "0192f7c4-0000-7000-8000-00000000000a"),
    ],
)
def test_what_a_person_writes_becomes_what_duckdb_writes(name: str, written: str, canonical: str) -> None:
    assert mark_type(name).canonical(written) == canonical


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("BIGINT", "9223372036854775808", "out of its range"),
        ("UINTEGER", "-1", "an integer from 0 to 4294967295"),
        ("BIGINT", "1e3", "not an integer"),
        ("BIGINT", "", "not an integer"),
        ("BIGINT", "٣", "not an integer"),
        ("DECIMAL(4,1)", "1.25", "more than 1 digits after the point"),
        ("DECIMAL(4,1)", "1000", "out of its range"),
        ("DECIMAL(4,1)", ".", "not a decimal number"),
        ("DATE", "2023-02-29", "no such day"),
        ("DATE", "1900-02-29", "no such day"),
        ("DATE", "24/01/2024", "YYYY-MM-DD"),
        ("TIMESTAMP", "2024-01-01 24:00:00", "no such time of day"),
        ("TIMESTAMP", "2024-01-01 10:00:00Z", "this type has no offset"),
        ("TIMESTAMP", "2024-01-01 10:00:00.1234567", "more than 6 digits"),
        ("TIMESTAMP", "300000-01-01", "out of its range"),
        ("TIMESTAMP WITH TIME ZONE", "2024-01-01 10:00:00", "an offset from UTC is missing"),
        ("UUID", "0192f7c4", "8-4-4-4-12"),
        ("VARCHAR", "\udc80", "text in UTF-8"),
    ],
)
def test_a_value_of_another_form_is_refused_with_the_form(name: str, text: str, said: str) -> None:
    with pytest.raises(StateError) as caught:
        mark_type(name).order(text)
    assert said in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "name", ["DOUBLE", "BOOLEAN", "INTERVAL", "BLOB", "ENUM('a', 'b')", "STRUCT(a INTEGER)"]
)
def test_a_type_without_an_exact_order_is_no_watermark(name: str) -> None:
    assert find_mark_type(name) is None
    with pytest.raises(StateError, match="Choose a column"):
        mark_type(name)


def test_nanoseconds_a_float_cannot_tell_apart_are_told_apart() -> None:
    kind: MarkType = mark_type("TIMESTAMP_NS")
    assert kind.order("2024-01-01 00:00:00.123456789") < kind.order("2024-01-01 00:00:00.12345679")


def test_a_version_7_uuid_is_ordered_by_its_time() -> None:
    earlier = str(UUID(int=(1_700_000_000_000 << 80) | (7 << 76) | (2**76 - 1)))
    later = str(UUID(int=(1_700_000_000_001 << 80) | (7 << 76)))
    assert mark_type("UUID").order(earlier) < mark_type("UUID").order(later)
