"""Which tables has the source, with which columns and primary keys?"""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby

import duckdb

from cdc.change import Column, TableId, TableSchema
from cdc.source.file.collations import collations_of

_COLUMNS = """
SELECT columns.schema_name, columns.table_name, column_name, columns.data_type, is_nullable,
    CASE WHEN is_generated THEN generation_expression END
FROM duckdb_columns() AS columns
JOIN duckdb_tables() AS tables USING (database_oid, schema_oid, table_oid)
WHERE columns.database_name = $1 AND NOT columns.internal AND NOT tables.temporary
ORDER BY columns.schema_name, columns.table_name, column_index
"""
_KEYS = """
SELECT schema_name, table_name, constraint_column_names, constraint_type = 'PRIMARY KEY'
FROM duckdb_constraints()
WHERE database_name = $1 AND constraint_type IN ('PRIMARY KEY', 'UNIQUE')
"""
_INDEXES = """
SELECT schema_name, table_name, expressions FROM duckdb_indexes() WHERE database_name = $1 AND is_unique
"""
_COLLATED = """
SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = $1 AND sql LIKE '% COLLATE %'
"""


def read_tables(connection: duckdb.DuckDBPyConnection, database: str) -> tuple[TableSchema, ...]:
    """Every table of the attached `database`, in order of schema and name; views are none.

    Raises:
        duckdb.Error: the catalog cannot be read.
    """
    keys: dict[TableId, tuple[str, ...]] = {}
    unique: dict[TableId, list[tuple[str, ...]]] = defaultdict(list)
    for schema, name, columns, primary in connection.execute(_KEYS, [database]).fetchall():
        unique[TableId(schema, name)].append(tuple(columns))
        if primary:
            keys[TableId(schema, name)] = tuple(columns)
    for schema, name, expressions in connection.execute(_INDEXES, [database]).fetchall():
        unique[TableId(schema, name)].append(tuple(str(expressions).strip("[]").split(", ")))
    collated = {
        TableId(schema, name): collations_of(sql)
        for schema, name, sql in connection.execute(_COLLATED, [database]).fetchall()
    }
    rows = connection.execute(_COLUMNS, [database]).fetchall()
    found = []
    for names, described in groupby(rows, key=lambda row: (row[0], row[1])):
        table = TableId(*names)
        columns = tuple(
            Column(column, kind, nullable, collated.get(table, {}).get(column, ""), generated)
            for _, _, column, kind, nullable, generated in described
        )
        never_null = {column.name for column in columns if not column.nullable}
        found.append(
            TableSchema(
                table,
                columns,
                keys.get(table, ()),
                # An expression, or a name that is written quoted, is none of the columns.
                tuple(each for each in unique[table] if never_null.issuperset(each)),
            )
        )
    return tuple(found)
