"""How a name or a text stands in DuckDB SQL, where it cannot be a parameter (ATTACH, identifiers)."""

from __future__ import annotations

from cdc.change import TableId


def identifier(name: str) -> str:
    """`name` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as a string literal."""
    return "'" + text.replace("'", "''") + "'"


def qualified(database: str, table: TableId) -> str:
    """`table` of the attached `database`, each part quoted."""
    return ".".join(identifier(part) for part in (database, table.schema, table.name))
