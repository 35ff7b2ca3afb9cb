"""How does a table in ClickHouse differ from what a plan asks for, and which statements mend it? [R10]

Names, types, engine and keys are compared as the server prints them. A column that the source no longer has
stays, with its history; a table with another engine or key is refused, for rows would be lost in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from cdc.change import Column, TablePlan
from cdc.target.ddl import DELETED_TYPE, VERSION_TYPE, TableDefinition, codec_in
from cdc.target.quote import canonical_type, quote_string
from cdc.target.types import ColumnCodec, column_codec
from cdc.target.version import ServerVersion

if TYPE_CHECKING:
    from cdc.target.transport import Transport


class SchemaDifferenceKind(Enum):
    """What differs."""

    MISSING_DATABASE = "missing database"
    MISSING_TABLE = "missing table"
    MISSING_VIEW = "missing view"
    MISSING_COLUMN = "missing column"
    OTHER_ENGINE = "other engine"
    OTHER_KEY = "other key"
    OTHER_VERSION = "other version column"
    OTHER_TYPE = "other type"
    OTHER_VIEW = "other view"
    EXTRA_COLUMN = "extra column"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, and either the statements that mend it or the reason why none does."""

    kind: SchemaDifferenceKind
    subject: str
    """The database, table, view or column that differs."""
    found: str = ""
    wanted: str = ""
    statements: tuple[str, ...] = ()
    reason: str = ""
    """Why it is not mended; empty where `statements` mend it."""

    @property
    def blocks(self) -> bool:
        """Whether rows cannot be delivered as long as it lasts."""
        return self.kind not in (
            SchemaDifferenceKind.MISSING_VIEW,
            SchemaDifferenceKind.OTHER_VIEW,
            SchemaDifferenceKind.EXTRA_COLUMN,
        )

    def __str__(self) -> str:
        match self.kind:
            case (
                SchemaDifferenceKind.MISSING_DATABASE
                | SchemaDifferenceKind.MISSING_TABLE
                | SchemaDifferenceKind.MISSING_VIEW
                | SchemaDifferenceKind.MISSING_COLUMN
            ):
                return f"{self.kind.value.removeprefix('missing ')} {self.subject} is missing"
            case SchemaDifferenceKind.EXTRA_COLUMN:
                return f"column {self.subject} is not in the source"
            case SchemaDifferenceKind.OTHER_VIEW:
                return f"view {self.subject} shows other columns"
            case _:
                what = self.kind.value.removeprefix("other ")
                return f"{what} of {self.subject} is {self.found or 'none'} instead of {self.wanted}"


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """A column as the server has it. `default` is empty, DEFAULT, MATERIALIZED, ALIAS or EPHEMERAL."""

    name: str
    type: str
    default: str
    in_key: bool


@dataclass(frozen=True, slots=True)
class FoundTable:
    """What the server has under the table's and the view's name."""

    database: bool
    engine: str
    """The engine with all its clauses; empty where there is no table."""
    columns: tuple[FoundColumn, ...]
    view_engine: str
    """`View`; empty where there is nothing, and another where something else has the view's name."""
    view_columns: tuple[str, ...]

    def column(self, name: str) -> FoundColumn | None:
        return next((column for column in self.columns if column.name == name), None)


def inspect(transport: Transport, definition: TableDefinition) -> FoundTable:
    """What the server has. A user that may only insert sees all of it: a right to a table shows the table."""
    database, name, view = (
        quote_string(text) for text in (definition.database, definition.name, definition.view_name)
    )
    ask = _Asker(transport, definition.server)
    databases = ask("system.databases", {"name": "VARCHAR"}, f"name = {database}")
    tables = ask(
        "system.tables",
        dict.fromkeys(("name", "engine", "engine_full"), "VARCHAR"),
        f"database = {database} AND name IN ({name}, {view})",
    )
    columns = ask(
        "system.columns",
        {
            **dict.fromkeys(("table", "name", "type", "default_kind"), "VARCHAR"),
            "is_in_sorting_key": "UTINYINT",
        },
        f"database = {database} AND table IN ({name}, {view})",
    )
    engines = {table: full or engine for table, engine, full in tables}
    return FoundTable(
        database=bool(databases),
        engine=engines.get(definition.name, ""),
        view_engine=engines.get(definition.view_name, ""),
        columns=tuple(
            FoundColumn(column, kind, default, bool(sorting))
            for table, column, kind, default, sorting in columns
            if table == definition.name
        ),
        view_columns=tuple(row[1] for row in columns if row[0] == definition.view_name),
    )


def compare(plan: TablePlan, definition: TableDefinition, found: FoundTable) -> tuple[Difference, ...]:
    """What differs, in the order in which it is mended."""
    if not found.engine:
        return tuple(_creation(definition, found))
    return (*_engine(definition, found), *_columns(plan, definition, found), *_view(definition, found))


def held_codecs(plan: TablePlan, definition: TableDefinition, found: FoundTable) -> tuple[ColumnCodec, ...]:
    """How each column is held by the table that is there, which an older server may have made."""
    held = []
    for column, codec in zip(plan.columns, definition.codecs, strict=True):
        there = found.column(column.name)
        held.append(codec if there is None else _codec_held(plan, column, definition, there.type) or codec)
    return tuple(held)


class _Asker:
    """Reads a system table over one transport."""

    def __init__(self, transport: Transport, server: ServerVersion) -> None:
        self._transport = transport
        self._server = server

    def __call__(self, table: str, columns: Mapping[str, str], condition: str) -> list[tuple[Any, ...]]:
        """The rows that meet `condition`, which is quoted already; `columns` gives each one's DuckDB type."""
        codecs = [column_codec(Column(name, kind, False), self._server) for name, kind in columns.items()]
        sql = f"SELECT {', '.join(columns)} FROM {table} WHERE {condition}"  # noqa: S608
        batches = self._transport.query(sql, codecs)
        return [row for batch in batches for row in zip(*(c.to_pylist() for c in batch.columns), strict=True)]


def _creation(definition: TableDefinition, found: FoundTable) -> Iterator[Difference]:
    if not found.database:
        create = definition.create_database()
        yield Difference(SchemaDifferenceKind.MISSING_DATABASE, definition.database, statements=(create,))
    create = definition.create_table()
    yield Difference(SchemaDifferenceKind.MISSING_TABLE, definition.qualified, statements=(create,))
    yield from _view(definition, found)


def _view(definition: TableDefinition, found: FoundTable) -> Iterator[Difference]:
    wanted = tuple(codec.name for codec in definition.codecs)
    create = definition.create_view()
    if not found.view_engine:
        yield Difference(SchemaDifferenceKind.MISSING_VIEW, definition.view, statements=(create,))
    elif not found.view_engine.startswith("View"):
        reason = f"a table of engine {found.view_engine} has its name, and is not ours to drop"
        yield Difference(SchemaDifferenceKind.OTHER_VIEW, definition.view, reason=reason)
    elif found.view_columns != wanted:
        statements = (definition.drop_view(), create)
        listed = (", ".join(found.view_columns), ", ".join(wanted))
        yield Difference(SchemaDifferenceKind.OTHER_VIEW, definition.view, *listed, statements)


_ENGINE = re.compile(r"(?P<family>\w*?)ReplacingMergeTree(?:\((?P<arguments>.*?)\)(?= |$))?")

_MOVE = "rename it away, or give the plan another target, then run 'cdc schema apply' and 'cdc resync'"


def _engine(definition: TableDefinition, found: FoundTable) -> Iterator[Difference]:
    matched = _ENGINE.match(found.engine)
    if matched is None:
        reason = f"ClickHouse cannot change a table's engine: {_MOVE}"
        name = re.split(r"[( ]", found.engine)[0]
        yield Difference(
            SchemaDifferenceKind.OTHER_ENGINE, definition.qualified, name, "ReplacingMergeTree", reason=reason
        )
        return
    version = definition.options.version_column
    arguments = [part.strip("` ") for part in (matched["arguments"] or "").split(",")]
    # After the version there may be is_deleted, and before it the path and the replica's name.
    if version not in arguments[-2:]:
        reason = f"ClickHouse cannot change the version column of a table: {_MOVE}"
        said = matched["arguments"] or ""
        yield Difference(
            SchemaDifferenceKind.OTHER_VERSION, definition.qualified, said, version, reason=reason
        )
    key = tuple(column.name for column in found.columns if column.in_key)
    if sorted(key) != sorted(definition.key):
        reason = f"ClickHouse cannot change the key of a table: {_MOVE}"
        listed = (", ".join(key), ", ".join(definition.key))
        yield Difference(SchemaDifferenceKind.OTHER_KEY, definition.qualified, *listed, reason=reason)


def _columns(plan: TablePlan, definition: TableDefinition, found: FoundTable) -> Iterator[Difference]:
    before: str | None = None
    for column, codec in zip(plan.columns, definition.codecs, strict=True):
        there = found.column(column.name)
        if there is None:
            add = definition.add_column(column.name, codec.clickhouse_type, before)
            yield Difference(
                SchemaDifferenceKind.MISSING_COLUMN,
                column.name,
                wanted=codec.clickhouse_type,
                statements=(add,),
            )
        elif _codec_held(plan, column, definition, there.type) is None:
            yield _retyped(definition, column, there, codec.clickhouse_type)
        before = column.name
    own = dict(definition.own_columns())
    for name, wanted in own.items():
        there = found.column(name)
        plain = wanted.split(" DEFAULT ")[0]
        if there is None:
            add = definition.add_column(name, wanted, None)
            yield Difference(SchemaDifferenceKind.MISSING_COLUMN, name, wanted=plain, statements=(add,))
        elif plain in (VERSION_TYPE, DELETED_TYPE) and there.type != plain:
            reason = f"its values would change their meaning: {_MOVE}"
            yield Difference(SchemaDifferenceKind.OTHER_TYPE, name, there.type, plain, reason=reason)
    for there in found.columns:
        if there.name not in plan.column_names and there.name not in own and not there.default:
            reason = (
                "it keeps the history of a column that the source had; drop it by hand if nobody reads it"
            )
            yield Difference(SchemaDifferenceKind.EXTRA_COLUMN, there.name, found=there.type, reason=reason)


_RELEASES = tuple(
    ServerVersion(*release)
    for release in ((18, 16), (19, 1), (20, 1), (21, 6), (21, 9), (21, 12), (22, 8), (25, 3), (25, 12))
)
"""Before each of these a type was held in another way, and the tables made then still hold it so."""


def _codec_held(
    plan: TablePlan, column: Column, definition: TableDefinition, clickhouse_type: str
) -> ColumnCodec | None:
    """The codec that holds `column` as `clickhouse_type`, of this release or of an older one; None: there is
    none. A column that may be NULL in the table holds one that may not be in the source."""
    server = definition.server
    wanted = canonical_type(clickhouse_type)
    for release in (server, *(older for older in reversed(_RELEASES) if older < server)):
        for nullable in dict.fromkeys((column.nullable, True)):
            codec = codec_in(plan, replace(column, nullable=nullable), release)
            if canonical_type(codec.clickhouse_type) == wanted:
                return codec
    return None


def _retyped(definition: TableDefinition, column: Column, there: FoundColumn, wanted: str) -> Difference:
    if there.in_key:
        reason = f"ClickHouse cannot change a column of the key: {_MOVE}"
    elif not _widens(there.type, wanted):
        reason = f"values of {there.type} may not fit {wanted}: {_MOVE}"
    else:
        change = definition.modify_column(column.name, wanted)
        return Difference(SchemaDifferenceKind.OTHER_TYPE, column.name, there.type, wanted, (change,))
    return Difference(SchemaDifferenceKind.OTHER_TYPE, column.name, there.type, wanted, reason=reason)


_NUMBER = re.compile(r"(U?)Int(\d+)")
_DECIMAL = re.compile(r"Decimal\((\d+), (\d+)\)")
_ENUM = re.compile(r"'((?:[^'\\]|\\.)*)' = (-?\d+)")


def _widens(old: str, new: str) -> bool:
    """Whether every value of the type `old` is one of `new`, and the same one."""
    old_plain, new_plain = (kind.removeprefix("Nullable(").removesuffix(")") for kind in (old, new))
    if old.startswith("Nullable(") and not new.startswith("Nullable("):
        return False
    if not old.startswith("Nullable("):
        old_plain = old
    if not new.startswith("Nullable("):
        new_plain = new
    if old_plain == new_plain or (old_plain, new_plain) == ("Float32", "Float64"):
        return True
    if (a := _NUMBER.fullmatch(old_plain)) and (b := _NUMBER.fullmatch(new_plain)):
        room = int(b[2]) > int(a[2])
        return room if a[1] == b[1] or not b[1] else False
    if (a := _DECIMAL.fullmatch(old_plain)) and (b := _DECIMAL.fullmatch(new_plain)):
        return a[2] == b[2] and int(a[1]) <= int(b[1])
    if old_plain.startswith("Enum") and new_plain.startswith("Enum"):
        return set(_ENUM.findall(old_plain)) <= set(_ENUM.findall(new_plain))
    return False
