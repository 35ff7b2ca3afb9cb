"""How is the result of any SELECT read? Its types are asked first; what has no codec is asked for as text."""

from __future__ import annotations

import re

from cdc.change import Column
from cdc.errors import TargetError
from cdc.target.quote import quote_identifier
from cdc.target.transport import Transport
from cdc.target.types import ColumnCodec, column_codec
from cdc.target.version import ServerVersion

_DUCKDB_TYPES = {
    "Bool": "BOOLEAN",
    "Int8": "TINYINT",
    "Int16": "SMALLINT",
    "Int32": "INTEGER",
    "Int64": "BIGINT",
    "Int128": "HUGEINT",
    "UInt8": "UTINYINT",
    "UInt16": "USMALLINT",
    "UInt32": "UINTEGER",
    "UInt64": "UBIGINT",
    "UInt128": "UHUGEINT",
    "Float32": "FLOAT",
    "Float64": "DOUBLE",
    "String": "VARCHAR",
    "UUID": "UUID",
    "Date": "DATE",
    "Date32": "DATE",
    "DateTime64(0, 'UTC')": "TIMESTAMP_S",
    "DateTime64(3, 'UTC')": "TIMESTAMP_MS",
    "DateTime64(6, 'UTC')": "TIMESTAMP",
    "DateTime64(9, 'UTC')": "TIMESTAMP_NS",
}
MOST_DIGITS = 38
"""Of a DECIMAL in DuckDB; ClickHouse has up to 76."""
_DECIMAL = re.compile(r"Decimal\((\d+), (\d+)\)")


def readable(transport: Transport, sql: str, server: ServerVersion) -> tuple[str, tuple[ColumnCodec, ...]]:
    """`sql`, a SELECT, with each column as a type that is decoded exactly, and the codecs that do it.

    Raises:
        TargetError: the server refuses `sql`.
    """
    inner = sql.strip().rstrip(";").rstrip()
    described = [Column(name, "VARCHAR", nullable=False) for name in _described_columns(server)]
    codecs = [column_codec(column, server) for column in described]
    columns, chosen = [], []
    for batch in transport.query(f"DESCRIBE TABLE (\n{inner}\n)", codecs):
        for name, kind in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
            expression, codec = _column(name, kind, server)
            columns.append(f"{expression} AS {quote_identifier(name)}")
            chosen.append(codec)
    return f"SELECT {', '.join(columns)} FROM (\n{inner}\n)", tuple(chosen)  # noqa: S608 - the person's own


def _described_columns(server: ServerVersion) -> tuple[str, ...]:
    first = ("name", "type", "default_type", "default_expression")
    if not server.at_least(18, 17):
        return (*first, "comment_expression")
    return (*first, "comment", "codec_expression", "ttl_expression")


def _column(name: str, kind: str, server: ServerVersion) -> tuple[str, ColumnCodec]:
    quoted = quote_identifier(name)
    nullable = kind.startswith("Nullable(")
    plain = kind[len("Nullable(") : -1] if nullable else kind
    decimal = _DECIMAL.fullmatch(plain)
    if decimal is not None and int(decimal[1]) <= MOST_DIGITS:
        duckdb_type: str | None = plain.upper().replace(", ", ",")
    else:
        duckdb_type = _DUCKDB_TYPES.get(plain)
    if duckdb_type is not None:
        try:
            codec = column_codec(Column(name, duckdb_type, nullable), server)
        except TargetError:
            codec = None
        if codec is not None and codec.clickhouse_type == kind:
            return quoted, codec
    text = column_codec(Column(name, "VARCHAR", nullable=True), server)
    return f"CAST(toString({quoted}) AS {text.clickhouse_type})", text
