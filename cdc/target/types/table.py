"""Which type does each DuckDB type become? The mapping as a table for people, made from the codecs."""

from __future__ import annotations

from dataclasses import dataclass

from cdc.change import Column
from cdc.errors import TargetError
from cdc.target.types import column_codec
from cdc.target.version import ServerVersion

EXAMPLES = (
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
    "BIGNUM",
    "FLOAT",
    "DOUBLE",
    "DECIMAL(18,6)",
    "VARCHAR",
    "BLOB",
    "BIT",
    "JSON",
    "UUID",
    "ENUM('a', 'b')",
    "DATE",
    "TIME",
    "TIME_NS",
    "TIME WITH TIME ZONE",
    "TIMESTAMP_S",
    "TIMESTAMP_MS",
    "TIMESTAMP",
    "TIMESTAMP_NS",
    "TIMESTAMP WITH TIME ZONE",
    "TIMESTAMPTZ_NS",
    "INTERVAL",
    "INTEGER[]",
    "INTEGER[3]",
    "STRUCT(a INTEGER, b VARCHAR)",
    "TUPLE(INTEGER, VARCHAR)",
    "MAP(VARCHAR, INTEGER)",
    "MAP(DOUBLE, INTEGER)",
    "UNION(a INTEGER, b VARCHAR)",
    "GEOMETRY",
    "VARIANT",
)
"""Every DuckDB type, with arguments where it has some."""


@dataclass(frozen=True, slots=True)
class TypeRule:
    """What becomes of one type, as a NOT NULL column and as one that may be NULL."""

    duckdb: str
    clickhouse: str
    nullable: str
    note: str


def rules(server: ServerVersion) -> tuple[TypeRule, ...]:
    """The mapping of every type in `EXAMPLES` on `server`."""
    return tuple(_rule(example, server) for example in EXAMPLES)


def markdown(server: ServerVersion) -> str:
    """`rules(server)` as a table in Markdown, columns aligned."""
    rows = [("DuckDB", "NOT NULL", "may be NULL", "kept as")]
    rows += [(rule.duckdb, rule.clickhouse, rule.nullable, rule.note) for rule in rules(server)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    return "\n".join([lines[0], _line(["-" * width for width in widths], widths), *lines[1:]])


def _rule(example: str, server: ServerVersion) -> TypeRule:
    try:
        required = column_codec(Column("example", example, nullable=False), server)
    except TargetError:
        return TypeRule(example, "refused", "refused", "")
    optional = column_codec(Column("example", example), server)
    return TypeRule(example, required.clickhouse_type, optional.clickhouse_type, required.note)


def _line(cells: tuple[str, ...] | list[str], widths: list[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"
