"""Which tables has a served database, with which columns and keys?"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from cdc.change import Column, TableId, TableSchema
from cdc.source.file.collations import collations_of
from cdc.source.quote import literal
from cdc.source.served.client import Client

_ENTRIES = 4_000
"""Of one page: names are short, and what defines a table is rarely long."""


def read_served_tables(client: Client, database: str) -> tuple[TableSchema, ...]:
    """Every table of the `database`, in order of schema and name; views are none.

    Raises:
        SourceError: the server cannot be read.
    """
    name = literal(database)
    keys: dict[TableId, tuple[str, ...]] = {}
    unique: dict[TableId, list[tuple[str, ...]]] = defaultdict(list)
    for row in _all(
        client,
        "SELECT schema_name, table_name, constraint_column_names AS columns, "
        "constraint_type = 'PRIMARY KEY' AS is_primary, constraint_index AS number FROM duckdb_constraints() "
        f"WHERE database_name = {name} AND constraint_type IN ('PRIMARY KEY', 'UNIQUE')",
    ):
        table = TableId(row["schema_name"], row["table_name"])
        unique[table].append(tuple(row["columns"]))
        if row["is_primary"]:
            keys[table] = tuple(row["columns"])
    for row in _all(
        client,
        "SELECT schema_name, table_name, expressions, index_oid AS number FROM duckdb_indexes() "
        f"WHERE database_name = {name} AND is_unique",
    ):
        table = TableId(row["schema_name"], row["table_name"])
        unique[table].append(tuple(str(row["expressions"]).strip("[]").split(", ")))
    collated = {
        TableId(row["schema_name"], row["table_name"]): collations_of(row["sql"])
        for row in _all(
            client,
            "SELECT schema_name, table_name, sql, table_oid AS number FROM duckdb_tables() "
            f"WHERE database_name = {name} AND sql LIKE '% COLLATE %'",
        )
    }
    columns: dict[TableId, list[Column]] = defaultdict(list)
    for row in _all(
        client,
        "SELECT columns.schema_name, columns.table_name, column_name, columns.data_type, is_nullable, "
        "column_index AS number FROM duckdb_columns() AS columns "
        "JOIN duckdb_tables() AS tables USING (database_oid, schema_oid, table_oid) "
        f"WHERE columns.database_name = {name} AND NOT columns.internal AND NOT tables.temporary",
    ):
        table = TableId(row["schema_name"], row["table_name"])
        collation = collated.get(table, {}).get(row["column_name"], "")
        columns[table].append(Column(row["column_name"], row["data_type"], row["is_nullable"], collation))
    return tuple(
        TableSchema(
            table,
            tuple(found),
            keys.get(table, ()),
            tuple(
                each
                for each in unique[table]
                if {column.name for column in found if not column.nullable}.issuperset(each)
            ),
        )
        for table, found in columns.items()
    )


def _all(client: Client, sql: str) -> list[dict[str, Any]]:
    """The rows of `sql`, which has `number`, page by page; sorted, so that a page is one response."""
    found: list[dict[str, Any]] = []
    while True:
        page = client.ask(
            f"SELECT * FROM ({sql}) ORDER BY schema_name, table_name, number "
            f"LIMIT {_ENTRIES} OFFSET {len(found)}",
            "list the tables of",
        ).to_pylist()
        found += page
        if len(page) < _ENTRIES:
            return found
