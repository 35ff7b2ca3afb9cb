"""Which ClickHouse type holds a DuckDB column, and how? Every family of types is registered here."""

from __future__ import annotations

from cdc.change import Column
from cdc.target.types import numbers, text, times
from cdc.target.types.codec import Buffer, Codec, ColumnCodec, Mask, Nullable, Rejected, refuse
from cdc.target.types.decimals import Decimal
from cdc.target.types.duckdb_type import DuckType, parse_type
from cdc.target.types.uuids import Uuid
from cdc.target.version import ServerVersion

__all__ = ["Buffer", "Codec", "ColumnCodec", "Mask", "Rejected", "column_codec"]


def column_codec(column: Column, server: ServerVersion) -> ColumnCodec:
    """How `column` is held by `server`.

    Raises:
        TargetError: if ClickHouse has no type that holds it; names the column, and means STOP.
    """
    try:
        kind = parse_type(column.type)
    except ValueError as error:
        raise refuse(
            column.name, column.type, str(error), "Leave the column out of the table's columns"
        ) from error
    inner = _codec(column, kind, server)
    return ColumnCodec(column, Nullable(inner) if column.nullable else inner)


def _codec(column: Column, kind: DuckType, server: ServerVersion) -> Codec:
    if kind.name in numbers.NAMES:
        return numbers.codec(kind.name, server)
    if kind.name in text.NAMES:
        return text.Text(kind.name)
    if kind.name in times.NAMES:
        return times.codec(kind.name, server)
    if kind.name == "DECIMAL":
        return Decimal(*kind.numbers)
    if kind.name == "UUID":
        return Uuid()
    raise refuse(
        column.name,
        column.type,
        f"ClickHouse has no type for {kind.name}",
        "Leave the column out of the table's columns",
    )
