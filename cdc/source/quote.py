"""How a name or a text stands in DuckDB SQL, where it cannot be a parameter (ATTACH, identifiers)."""

from __future__ import annotations

from cdc.change import Column, TableId


def identifier(name: str) -> str:
    """`name` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as a string literal."""
    return "'" + text.replace("'", "''") + "'"


def qualified(database: str, table: TableId) -> str:
    """`table` of the attached `database`, each part quoted."""
    return ".".join(identifier(part) for part in (database, table.schema, table.name))


def definition(column: Column) -> str:
    """The `column` as CREATE TABLE has it: what is generated of it, or a filter, is evaluated over it as
    over the source's own."""
    collation = f" COLLATE {identifier(column.collation)}" if column.collation else ""
    generated = f" GENERATED ALWAYS AS ({column.generated})" if column.generated is not None else ""
    return f"{identifier(column.name)} {column.type}{collation}{generated}"


def by_bytes(column: Column) -> str:
    """The `column` as what is compared and ordered by its bytes, as ClickHouse does."""
    return f'{identifier(column.name)} COLLATE "binary"' if column.collation else identifier(column.name)
