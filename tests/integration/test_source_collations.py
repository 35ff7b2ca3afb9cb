"""Collations are read from a table's SQL as each DuckDB writes it."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from cdc.source import open_source
from cdc.source.file.collations import collations_of
from tests.support.writers import VERSIONS, Writer

TABLE = """
CREATE TABLE "s (x"(
    plain VARCHAR,
    "a ""b" VARCHAR COLLATE "nocase.noaccent" DEFAULT ('x, y' COLLATE nocase),
    "collate" VARCHAR CHECK ("collate" COLLATE nocase <> 'y (VARCHAR'),
    "Mixed" VARCHAR COLLATE nfc NOT NULL,
    exact VARCHAR COLLATE "binary",
    d STRUCT(x VARCHAR, y DECIMAL(4,1)),
    locale VARCHAR COLLATE de UNIQUE,
    PRIMARY KEY ("a ""b")
)
"""


def test_a_columns_collation_is_told_from_those_in_its_default_and_constraints() -> None:
    with duckdb.connect() as connection:
        connection.execute(TABLE)
        [(sql,)] = connection.execute("SELECT sql FROM duckdb_tables()").fetchall()
    assert collations_of(sql) == {'a "b': "nocase.noaccent", "Mixed": "nfc", "locale": "de"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_source_tells_the_collations_of_its_columns(tmp_path: Path, version: str) -> None:
    with Writer(tmp_path / "collated.db", version) as writer:
        writer.run("CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR COLLATE NOCASE, note VARCHAR)")
        with open_source(writer.path) as source:
            [schema] = source.tables()
    assert {column.name: column.collation.lower() for column in schema.columns if column.collation} == {
        "name": "nocase"
    }
