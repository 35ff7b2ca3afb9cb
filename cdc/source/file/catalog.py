"""Which tables has the source, with which columns and primary keys?"""

from __future__ import annotations

from itertools import groupby

import duckdb

from cdc.change import Column, TableId, TableSchema

_COLUMNS = """
SELECT columns.schema_name, columns.table_name, column_name, columns.data_type, is_nullable
FROM duckdb_columns() AS columns
JOIN duckdb_tables() AS tables USING (database_oid, schema_oid, table_oid)
WHERE columns.database_name = $1 AND NOT columns.internal AND NOT tables.temporary
ORDER BY columns.schema_name, columns.table_name, column_index
"""
_KEYS = """
SELECT schema_name, table_name, constraint_column_names
FROM duckdb_constraints()
WHERE database_name = $1 AND constraint_type = 'PRIMARY KEY'
"""


def read_tables(connection: duckdb.DuckDBPyConnection, database: str) -> tuple[TableSchema, ...]:
    """Every table of the attached `database`, in order of schema and name; views are none.

    Raises:
        duckdb.Error: the catalog cannot be read.
    """
    keys = {
        TableId(schema, name): tuple(columns)
        for schema, name, columns in connection.execute(_KEYS, [database]).fetchall()
    }
    rows = connection.execute(_COLUMNS, [database]).fetchall()
    return tuple(
        TableSchema(
            table=TableId(*names),
            columns=tuple(Column(column, kind, nullable) for _, _, column, kind, nullable in columns),
            primary_key=keys.get(TableId(*names), ()),
        )
        for names, columns in groupby(rows, key=lambda row: (row[0], row[1]))
    )
