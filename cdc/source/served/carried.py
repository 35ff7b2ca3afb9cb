"""How does a value of each type come through Quack exactly? As it is, or as text that is cast back here.

The driver carries some types without loss. Every other type is cast to text by the server's DuckDB and back
by the one here. Some it changes without a word, and one HUGEINT ends the process, so what is not known to be
exact is never asked for as it is. A UNION and a VARIANT have no text that says which type a value has.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from cdc.change import Column, TableId
from cdc.duckdb_types.spelling import DuckType, parse_type
from cdc.errors import SourceError
from cdc.source.quote import identifier

_INTEGERS = frozenset(
    f"{sign}{name}" for sign in ("", "U") for name in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
)
_MEMBERS = frozenset({"BOOLEAN", "FLOAT", "DOUBLE", "DECIMAL", "VARCHAR", *_INTEGERS})
"""Exact as they are, also within a list, a struct or a map."""
_AS_THEY_ARE = _MEMBERS | {"BLOB", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"}
_NESTED = frozenset({"LIST", "STRUCT", "MAP"})
_AS_TEXT = frozenset(
    {
        "HUGEINT",
        "UHUGEINT",
        "BIGNUM",
        "DATE",
        "TIME",
        "TIME_NS",
        "TIME WITH TIME ZONE",
        "TIMESTAMP_S",
        "TIMESTAMP_MS",
        "TIMESTAMPTZ_NS",
        "INTERVAL",
        "UUID",
        "BIT",
        "ENUM",
        "JSON",
    }
)
_CARRIED = _AS_THEY_ARE | _AS_TEXT | _NESTED | {"ARRAY", "TIMESTAMP_NS"}
_INFINITY = 2**63 - 1
"""What DuckDB holds for an infinite TIMESTAMP_NS. As a number it takes a third of its text's time."""


def check_carried(table: TableId, columns: Iterable[Column]) -> None:
    """See that each of the columns can be read exactly.

    Raises:
        SourceError: one cannot; it names the first.
    """
    for column in columns:
        if not _known(column.type):
            raise SourceError(
                "replicate",
                table,
                f"its column {column.name} is a {column.type}, which Quack does not carry exactly",
                "Leave it out with [[tables]] columns, or read the file itself",
            )


def carried(column: Column, qualifier: str = "") -> str:
    """What is selected of the `column` in the server."""
    name = f"{qualifier}{identifier(column.name)}"
    found = parse_type(column.type)
    if found.name == "TIMESTAMP_NS":
        infinite = f"CASE WHEN {name} > TIMESTAMP_NS '2000-01-01' THEN {_INFINITY} ELSE -{_INFINITY} END"
        return f"CASE WHEN isfinite({name}) THEN epoch_ns({name}) WHEN {name} IS NOT NULL THEN {infinite} END"
    return name if _as_it_is(found) else f"CAST({name} AS VARCHAR)"


def restored(columns: Iterable[Column]) -> str:
    """The SELECT list that gives `columns`, which were `carried`, their types."""
    return ", ".join(
        f"CAST({identifier(column.name)} AS {column.type}) AS {identifier(column.name)}" for column in columns
    )


def as_local(rows: pa.Table, columns: Iterable[Column]) -> pa.Table:
    """`rows` whose times are times: TIMESTAMP_NS came as numbers, and to a TIMESTAMP the driver puts a time
    zone; what has one says so by its type."""
    nanoseconds = {column.name for column in columns if column.type == "TIMESTAMP_NS"}
    for number, field in enumerate(rows.schema):
        if field.name in nanoseconds:
            times = rows.column(number).cast(pa.timestamp("ns"))
            rows = rows.set_column(number, field.name, times)
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            plain = rows.column(number).cast(pa.timestamp(field.type.unit))
            rows = rows.set_column(number, field.name, plain)
    return rows


def _known(spelled: str) -> bool:
    try:
        found = parse_type(spelled)
    except ValueError:
        return False
    return _all_known(found)


def _all_known(found: DuckType) -> bool:
    return found.name in _CARRIED and all(map(_all_known, found.types))


def _as_it_is(found: DuckType) -> bool:
    return found.name in _AS_THEY_ARE or (found.name in _NESTED and all(map(_member, found.types)))


def _member(found: DuckType) -> bool:
    return found.name in _MEMBERS or (found.name in _NESTED and all(map(_member, found.types)))
