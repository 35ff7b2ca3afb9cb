"""Which rows of a table lie between two watermarks, and how far does it reach? For verify and rebuild."""

from __future__ import annotations

import pyarrow as pa

from cdc.change import UNREACHABLE, Column, TablePlan
from cdc.errors import TargetError
from cdc.target.ddl import TableDefinition
from cdc.target.quote import quote_identifier, quote_string
from cdc.target.types import ColumnCodec
from cdc.target.types.numbers import fixed


def select_range(
    plan: TablePlan,
    definition: TableDefinition,
    codecs: tuple[ColumnCodec, ...],
    low: str | None,
    high: str | None,
    *,
    ordered: bool = True,
) -> str:
    """A SELECT of the plan's columns, for `low <= watermark < high`; by watermark and key if `ordered`.

    Raises:
        TargetError: the watermark is held as something that has another order than in the source.
    """
    held = {codec.name: codec for codec in codecs}
    mark = held[plan.watermark.name]
    terms = [f"{quote_identifier(definition.options.deleted_column)} = 0"]
    if low is not None:
        terms.append(f"{_ordered(mark)} >= {_literal(mark, low)}")
    if high is not None:
        below = f"{_ordered(mark)} < {_literal(mark, high)}"
        terms.append(below if low is not None else f"({below} OR {quote_identifier(mark.name)} IS NULL)")
    columns = ", ".join(quote_identifier(codec.name) for codec in codecs)
    order = [f"{_ordered(mark)} NULLS FIRST", *(_ordered(held[name]) for name in plan.key)]
    return (
        f"SELECT {columns} FROM {definition.qualified} FINAL "  # noqa: S608 - all of it quoted
        f"WHERE {' AND '.join(terms)}" + (f" ORDER BY {', '.join(order)}" if ordered else "")
    )


def select_maximum(
    plan: TablePlan,
    definition: TableDefinition,
    codecs: tuple[ColumnCodec, ...],
    upto: str | None,
) -> tuple[str, ColumnCodec]:
    """A SELECT of the greatest watermark up to `upto` in the source's order, deleted rows' too: one row, or
    none where there is no watermark; and the codec it is read with.

    Raises:
        TargetError: the watermark is held as something that has another order than in the source.
    """
    mark = next(codec for codec in codecs if codec.name == plan.watermark.name)
    name = quote_identifier(mark.name)
    _check_order(mark)
    terms = [f"{name} IS NOT NULL"]
    if upto is not None:
        terms.append(f"{_ordered(mark)} <= {_literal(mark, upto)}")
    return (
        f"SELECT {name} FROM {definition.qualified} "  # noqa: S608 - all of it quoted
        f"WHERE {' AND '.join(terms)} ORDER BY {_ordered(mark)} DESC LIMIT 1"
    ), mark


def select_versions(definition: TableDefinition) -> tuple[str, tuple[ColumnCodec, ...]]:
    """A SELECT of the greatest version that can be outranked, of how many rows have one, and of how many have
    one that cannot be; and the codecs it is read with."""
    version = quote_identifier(definition.options.version_column)
    names = ("newest", "rows", "beyond")
    found = (
        f"max(if({version} < {UNREACHABLE}, {version}, 0))",
        f"countIf({version} < {UNREACHABLE})",
        f"countIf({version} >= {UNREACHABLE})",
    )
    sql = f"SELECT {', '.join(map('toUInt64({}) AS {}'.format, found, names))} FROM {definition.qualified}"  # noqa: S608
    return sql, tuple(ColumnCodec(Column(name, "UBIGINT", False), fixed("UBIGINT")) for name in names)


def watermark_text(array: pa.Array) -> str:
    """The one value of `array`, not NULL, as text that a mark may have, though not in DuckDB's own form."""
    kind = array.type
    if isinstance(kind, pa.UuidType):
        return str(array[0].as_py())
    if isinstance(kind, pa.OpaqueType):  # HUGEINT and UHUGEINT: sixteen little-endian bytes
        return str(int.from_bytes(array.storage[0].as_py(), "little", signed=kind.type_name == "hugeint"))
    return str(array.cast(pa.string())[0].as_py())


def _ordered(codec: ColumnCodec) -> str:
    """The column as it sorts in DuckDB: ClickHouse sorts UUIDs by their second half first."""
    name = quote_identifier(codec.name)
    return f"toString({name})" if _plain(codec) == "UUID" else name


def _literal(codec: ColumnCodec, text: str) -> str:
    """DuckDB's text of a watermark as a literal of the column's type."""
    kind = _plain(codec)
    arrow_type = codec.arrow_type
    _check_order(codec)
    if kind == "UUID":
        return quote_string(text)
    if pa.types.is_timestamp(arrow_type) or pa.types.is_time(arrow_type):
        if kind.startswith(("Int", "UInt")):  # ticks
            return str(pa.array([text]).cast(arrow_type).cast(pa.int64())[0].as_py())
        text = text.removesuffix("+00")
    return f"CAST({quote_string(text)} AS {kind})"


def _check_order(codec: ColumnCodec) -> None:
    if _plain(codec) == "String" and not _is_text(codec.arrow_type):
        raise TargetError(
            "compare",
            f"column {codec.name!r} by ranges",
            f"{codec.arrow_type} is held as text, which sorts in another way",
            "Verify the whole table instead of ranges",
        )


def _plain(codec: ColumnCodec) -> str:
    """The ClickHouse type without Nullable."""
    kind = codec.clickhouse_type
    return kind[len("Nullable(") : -1] if kind.startswith("Nullable(") else kind


def _is_text(arrow_type: pa.DataType) -> bool:
    return bool(pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type))
