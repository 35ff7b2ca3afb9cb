"""Which ClickHouse type holds a DuckDB column, and how? Every family of types is registered here.

Every mapping is exact both ways. `table.markdown(server)` prints it for a release; the rules behind it:

| DuckDB | ClickHouse | on older releases |
|---|---|---|
| integers to 64 bits, FLOAT, DOUBLE, UUID, DECIMAL | the same type, bit for bit | the same |
| BOOLEAN | Bool | UInt8 before 21.12 |
| HUGEINT, UHUGEINT | Int128, UInt128 | String of decimal text before 21.8 |
| BIGNUM | String of decimal text | the same |
| VARCHAR, BLOB, JSON, GEOMETRY | String: text, bytes, the document's own text, well-known binary | the same |
| BIT | String of 0 and 1 | the same |
| ENUM | LowCardinality(String) | String before 19.1 |
| DATE | Date32 | Date before 21.9 |
| TIME, TIME_NS | Time64(6), Time64(9) | Int64 of the same unit before 25.12 |
| TIMETZ | String, `12:34:56.000000+02:30:00` | the same |
| TIMESTAMP of each unit, TIMESTAMPTZ | DateTime64(0, 3, 6 or 9, 'UTC') | Int64 of the same unit before 20.1 |
| INTERVAL | Tuple(months, days, microseconds) | the same, unnamed before 21.1 |
| LIST, ARRAY | Array | the same |
| STRUCT, TUPLE | Tuple, named and unnamed | unnamed before 21.1 |
| MAP | Map, or Array(Tuple(key, value)) for keys that Map does not take | Array(Tuple) before 21.12 |
| UNION | Tuple(tag, every member) | unnamed before 21.1 |
| VARIANT, NULL | refused, with the column's name | refused |

NULL: a column that may be NULL is Nullable(T), and so are members and elements, which always may. Array,
Tuple and Map cannot be Nullable, so there NULL is `[]` and a value `v` is `[v]`: an Array of at most one.

Ranges: Date, Date32 and DateTime64 print and compute with what lies in `ServerVersion.datetime64_range`; a
row with a value beyond it, or ±infinity, is rejected, never changed.

Before 21.1 a column of type Array(Tuple(…)) would be split up as Nested, so it is Tuple(Array(Tuple(…))).
"""

from __future__ import annotations

from collections.abc import Callable

from cdc.change import Column
from cdc.duckdb_types import DuckType, parse_type
from cdc.target.types import enums, numbers, text, times, wide
from cdc.target.types.bits import Bits
from cdc.target.types.codec import Buffer, Codec, ColumnCodec, Mask, Rejected, refuse
from cdc.target.types.decimals import Decimal
from cdc.target.types.nested import ArrayOf, MapOf, TupleOf, UnionOf
from cdc.target.types.spans import Interval, TimeTz
from cdc.target.types.uuids import Uuid
from cdc.target.version import ServerVersion

__all__ = ["Buffer", "Codec", "ColumnCodec", "Mask", "Rejected", "column_codec"]

_SINGLE: dict[str, Callable[[], Codec]] = {
    "UUID": Uuid,
    "BIT": Bits,
    "TIME WITH TIME ZONE": TimeTz,
}
_FAMILIES: dict[str, Callable[[str, ServerVersion], Codec]] = {
    **dict.fromkeys(numbers.NAMES, numbers.codec),
    **dict.fromkeys(wide.NAMES, wide.codec),
    **dict.fromkeys(times.NAMES, times.codec),
    **dict.fromkeys(text.NAMES, text.codec),
}
_NESTED = ("LIST", "ARRAY", "STRUCT", "TUPLE", "MAP", "UNION")
_MAP_KEYS = frozenset(
    (
        "VARCHAR",
        "UUID",
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
    )
)
"""Keys that every release with Map takes."""

_LEAVE_OUT = "Leave the column out of the table's columns"


def column_codec(column: Column, server: ServerVersion) -> ColumnCodec:
    """How `column` is held by `server`.

    Raises:
        TargetError: if ClickHouse has no type that holds it; names the column, and means STOP.
    """
    try:
        kind = parse_type(column.type)
    except ValueError as error:
        raise refuse(column.name, column.type, str(error), _LEAVE_OUT) from error
    codec = _codec(column, kind, server)
    if column.nullable:
        codec = codec.nullable()
    if not server.has_nested_tuple and codec.clickhouse_type.startswith("Array(Tuple("):
        # Such a server would split this column into one for each element. A Tuple of one has the same bytes.
        codec.clickhouse_type = f"Tuple({codec.clickhouse_type})"
    return ColumnCodec(column, codec)


def _codec(column: Column, kind: DuckType, server: ServerVersion) -> Codec:
    """The codec of `kind`, which is `column`'s type or a part of it."""
    if kind.name in _FAMILIES:
        return _FAMILIES[kind.name](kind.name, server)
    if kind.name in _SINGLE:
        return _SINGLE[kind.name]()
    if kind.name == "INTERVAL":
        return Interval(server)
    if kind.name == "DECIMAL":
        return Decimal(*kind.numbers)
    if kind.name == "ENUM":
        return enums.codec(kind.labels, server)
    if kind.name in _NESTED:
        return _nested(column, kind, server)
    raise refuse(column.name, column.type, f"ClickHouse has no type for {kind.name}", _LEAVE_OUT)


def _nested(column: Column, kind: DuckType, server: ServerVersion) -> Codec:
    names = [name for name, _ in kind.members]
    if "null" in names:
        raise refuse(column.name, column.type, "a Tuple's element cannot be named null", _LEAVE_OUT)
    inner = [_codec(column, member, server) for member in kind.types]
    optional = [codec.nullable() for codec in inner]
    named = server.has_nested_tuple
    match kind.name:
        case "LIST":
            return ArrayOf(optional[0])
        case "ARRAY":
            return ArrayOf(optional[0], kind.numbers[0])
        case "MAP":
            as_map = server.has_map and kind.types[0].name in _MAP_KEYS
            return MapOf(inner[0], optional[1], as_map=as_map, named=named)
        case "UNION":
            return UnionOf(names, optional, named=named)
        case "TUPLE":
            return TupleOf([f"element{at + 1}" for at in range(len(names))], optional, named=False)
        case _:
            return TupleOf(names, optional, named=named)
