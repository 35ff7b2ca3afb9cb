"""DuckDB's spellings of types, as duckdb_columns() gives them."""

from __future__ import annotations

import duckdb
import pytest

from cdc.duckdb_types import DuckType, parse_type

INTEGER, VARCHAR = DuckType("INTEGER"), DuckType("VARCHAR")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("INTEGER", INTEGER),
        ("DECIMAL(18,6)", DuckType("DECIMAL", numbers=(18, 6))),
        ("TIMESTAMP WITH TIME ZONE", DuckType("TIMESTAMP WITH TIME ZONE")),
        ("TIMETZ", DuckType("TIME WITH TIME ZONE")),
        ("INTEGER[3][]", DuckType("LIST", (("", DuckType("ARRAY", (("", INTEGER),), (3,))),))),
        (
            'STRUCT(a INTEGER, "b "" (c" VARCHAR)',
            DuckType("STRUCT", (("a", INTEGER), ('b " (c', VARCHAR))),
        ),
        ("MAP(VARCHAR, INTEGER)", DuckType("MAP", (("", VARCHAR), ("", INTEGER)))),
        ("TUPLE(INTEGER, VARCHAR)", DuckType("TUPLE", (("", INTEGER), ("", VARCHAR)))),
        ("UNION(k INTEGER, s VARCHAR)", DuckType("UNION", (("k", INTEGER), ("s", VARCHAR)))),
        ("ENUM('a', 'it''s', '(,)')", DuckType("ENUM", labels=("a", "it's", "(,)"))),
        ("GEOMETRY('EPSG:4326')", DuckType("GEOMETRY")),
        ('"NULL"', DuckType("NULL")),
    ],
)
def test_a_spelling_names_one_type(text: str, kind: DuckType) -> None:
    assert parse_type(text) == kind


@pytest.mark.parametrize(
    "text", ["", "INTEGER)", "STRUCT(a)", "MAP(INTEGER", "ENUM(a)", "INTEGER[x]", "'a'", "a;b"]
)
def test_what_is_no_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a DuckDB type"):
        parse_type(text)


def test_what_duckdb_spells_is_what_was_declared() -> None:
    declared = (
        """STRUCT("select" MAP(ENUM('x', 'y''z'), DECIMAL(38,10)[2][]), "a""b" UNION(n UUID, b BLOB))"""
    )
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t (v {declared})").fetchall()
        ((spelled,),) = connection.execute(
            "SELECT data_type FROM duckdb_columns() WHERE table_name = 't'"
        ).fetchall()
    kind = parse_type(spelled)
    assert [name for name, _ in kind.members] == ["select", 'a"b']
    key, value = kind.types[0].types
    assert key.labels == ("x", "y'z")
    assert value.types[0].types == (DuckType("DECIMAL", numbers=(38, 10)),)
