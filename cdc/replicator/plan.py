"""Which tables are replicated, and how: the configuration's wishes held against the source's schema.

Names are compared as DuckDB compares them, without case, and come out as the source spells them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from cdc.change import Column, Completion, TableId, TablePlan, TableSchema
from cdc.duckdb_types import VERSIONS, WATERMARKS, meaning_of
from cdc.errors import ConfigError
from cdc.replicator.requests import Defaults, TableRequest, assigned, request_for
from cdc.replicator.target_names import collisions_of_listed, collisions_of_unlisted, default_target


@dataclass(frozen=True, slots=True)
class Overlaps:
    """How far reads go back where a table does not say it: on a watermark that is a time, or that counts."""

    time: str = "5s"
    count: int = 1000


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A table of the source that is not replicated, and why."""

    table: TableId
    reason: str
    listed: bool = False
    """A person should know: the configuration asks for it, or would, did it not collide with another."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What is replicated, in the configuration's order (else by name), and what is not."""

    plans: tuple[TablePlan, ...]
    left_out: tuple[LeftOut, ...]


def resolve(
    tables: Sequence[TableRequest],
    defaults: Defaults,
    schemas: Sequence[TableSchema],
    overlaps: Overlaps = Overlaps(),
    *,
    strict: bool = True,
    before: Collection[TableId] = (),
) -> Resolution:
    """The plans of the tables listed; of every table that can be replicated when none is listed.

    Of several tables that would be written to one target, one is replicated and the others are left out: the
    one that is listed first, or was replicated before, or comes first by name.

    Args:
        strict: False leaves out a listed table that cannot be replicated, for the others' sake.
        before: tables that were replicated before, whose rows their targets hold.

    Raises:
        ConfigError: a listed table cannot be replicated as asked, naming the table, the key and the remedy.
    """
    by_name = {schema.table.folded: schema for schema in schemas}
    plans: list[TablePlan] = []
    left_out: list[LeftOut] = []
    if tables:
        listed = set()
        for request, schema in assigned(tables, schemas):
            table = TableId.parse(request.name) if schema is None else schema.table
            listed.add(table.folded)
            try:
                if schema is None:
                    raise _no_such(request, schemas)
                plans.append(_plan(request, defaults, schema, overlaps))
            except ConfigError as error:
                if strict:
                    raise
                left_out.append(LeftOut(table, str(error), listed=True))
        left_out += [
            LeftOut(by_name[name].table, "not listed; add it to [[tables]] to replicate it")
            for name in sorted(by_name.keys() - listed)
        ]
    else:
        for schema in sorted(schemas, key=lambda schema: schema.table):
            try:
                plans.append(_plan(_Wish(str(schema.table)), defaults, schema, overlaps))
            except ConfigError as error:
                left_out.append(LeftOut(schema.table, f"{error.problem}. {error.remedy}"))
    remedy = "Give one of them another target in [[tables]]"
    if tables:
        collisions = collisions_of_listed(plans)
    else:
        remedy += ", and list the others there too"
        collisions = collisions_of_unlisted(plans, {table.folded for table in before}, by_name)
    for table, problem in collisions.items():
        refusal = _refusal(table, "target", problem, remedy)
        if tables and strict:
            raise refusal
        left_out.append(LeftOut(table, str(refusal), listed=True))
    return Resolution(tuple(plan for plan in plans if plan.table not in collisions), tuple(left_out))


def resolve_table(
    request: TableRequest,
    defaults: Defaults,
    schemas: Sequence[TableSchema],
    overlaps: Overlaps = Overlaps(),
) -> TablePlan:
    """The plan of one listed table.

    Raises:
        ConfigError: as `resolve`.
    """
    for schema in schemas:
        if request_for([request], schema.table) is not None:
            return _plan(request, defaults, schema, overlaps)
    raise _no_such(request, schemas)


def _no_such(request: TableRequest, schemas: Sequence[TableSchema]) -> ConfigError:
    names = [str(schema.table).removeprefix("main.") for schema in schemas]
    return _refusal(
        TableId.parse(request.name),
        "name",
        "the source has no such table",
        _nearest(request.name, names, "The source has"),
    )


@dataclass(frozen=True, slots=True)
class _Wish:
    """A table that is not listed: everything comes from [defaults] and the schema."""

    name: str
    target: None = None
    key: None = None
    watermark: None = None
    version: None = None
    columns: None = None
    exclude: None = None
    exclude_columns: None = None
    filter: None = None
    overlap: None = None
    completion: None = None


def _plan(request: TableRequest, defaults: Defaults, schema: TableSchema, overlaps: Overlaps) -> TablePlan:
    watermark = _watermark(request, defaults, schema)
    key = _key(request, defaults, schema)
    version = _version(request, defaults, schema)
    table = schema.table
    return TablePlan(
        table=table,
        target=request.target or default_target(table),
        columns=_columns(request, schema, {*key, watermark.name, *([version] if version else [])}),
        key=key,
        watermark=watermark,
        version=version,
        filter=request.filter,
        overlap=_overlap(request, schema.table, watermark, overlaps),
        completion=_completion(request, schema),
        unique_key=_has_one_row(schema, key),
    )


def _has_one_row(schema: TableSchema, key: Sequence[str]) -> bool:
    """Whether each key has one row by a constraint; also where a column hides DuckDB's row ids, which tell
    rows of one key apart: then that is not looked for."""
    constraints = [each for each in (schema.primary_key, *schema.unique) if each]
    return any(set(key).issuperset(each) for each in constraints) or _find(schema, "rowid") is not None


def _watermark(request: TableRequest, defaults: Defaults, schema: TableSchema) -> Column:
    name = request.watermark or defaults.watermark
    if name is None:
        raise _refusal(
            schema.table,
            "watermark",
            "no watermark column is configured",
            "Name a column that grows, in [[tables]] watermark or [defaults] watermark ('cdc init' proposes "
            "one)",
        )
    column = _column(schema, "watermark", name)
    if not meaning_of(column.type).may_be_watermark:
        raise _refusal(
            schema.table,
            "watermark",
            f"watermark {column.name!r} is a {column.type}, which has no exact order that grows",
            f"Choose a column of {WATERMARKS}",
        )
    if column.collation:
        raise _refusal(
            schema.table,
            "watermark",
            f"watermark {column.name!r} has the collation {column.collation}, by which different texts are "
            "equal or in another order than their bytes",
            "Choose a column without a collation, or take it away in the source: "
            f"ALTER TABLE {schema.table} ALTER {column.name} SET DATA TYPE VARCHAR",
        )
    return column


def _key(request: TableRequest, defaults: Defaults, schema: TableSchema) -> tuple[str, ...]:
    names = request.key or schema.primary_key or defaults.key
    if not names:
        raise _refusal(
            schema.table,
            "key",
            "it has no primary key, and no key is configured",
            "Name the columns that identify a row, in [[tables]] key or [defaults] key",
        )
    columns = [_column(schema, "key", name) for name in names]
    for column in columns:
        if not meaning_of(column.type).may_be_key:
            raise _refusal(
                schema.table,
                "key",
                f"key column {column.name!r} is a {column.type}, which cannot identify a row",
                "Choose columns of a plain type with an exact equality",
            )
    key = tuple(column.name for column in columns)
    if len(set(key)) < len(key):
        raise _refusal(schema.table, "key", f"{', '.join(key)} names a column twice", "Name each column once")
    return key


def _version(request: TableRequest, defaults: Defaults, schema: TableSchema) -> str | None:
    if request.version is not None:
        column = _column(schema, "version", request.version)
        if not meaning_of(column.type).may_be_version:
            raise _refusal(
                schema.table,
                "version",
                f"version {column.name!r} is a {column.type}, which does not fit an ordered 64-bit number",
                f"Choose {VERSIONS}, or leave version out",
            )
        return column.name
    default = _find(schema, defaults.version) if defaults.version else None
    return default.name if default is not None and meaning_of(default.type).may_be_version else None


def _columns(request: TableRequest, schema: TableSchema, needed: Iterable[str]) -> tuple[Column, ...]:
    if request.exclude_columns is not None:
        unwanted = {_column(schema, "exclude_columns", name).name for name in request.exclude_columns}
        if kept := sorted(unwanted.intersection(needed)):
            raise _refusal(
                schema.table,
                "exclude_columns",
                f"{kept[0]!r} is its key, watermark or version, which every row is sent with",
                "Take it out of exclude_columns, or choose another key, watermark or version",
            )
        return tuple(column for column in schema.columns if column.name not in unwanted)
    if request.columns is None:
        return schema.columns
    wanted = {_column(schema, "columns", name).name for name in request.columns}.union(needed)
    return tuple(column for column in schema.columns if column.name in wanted)


def _completion(request: TableRequest, schema: TableSchema) -> Completion | None:
    rule = request.completion
    if rule is None:
        return None
    column = _column(schema, "completion.group", rule.group)
    if not meaning_of(column.type).may_be_key:
        raise _refusal(
            schema.table,
            "completion.group",
            f"group column {column.name!r} is a {column.type}, which cannot identify a group",
            "Choose a column of a plain type with an exact equality",
        )
    if column.name not in {each.name for each in _columns(request, schema, ())}:
        raise _refusal(
            schema.table,
            "completion.group",
            f"group column {column.name!r} is not among the columns replicated",
            "Add it to [[tables]] columns",
        )
    return Completion(column.name, rule.condition, rule.max_age_sec, rule.max_rows, rule.max_mb << 20)


def _overlap(request: TableRequest, table: TableId, watermark: Column, overlaps: Overlaps) -> str:
    kind = meaning_of(watermark.type).overlap
    if request.overlap is None:
        defaults = {"time": overlaps.time, "date": _whole_days(overlaps.time), "count": str(overlaps.count)}
        return defaults.get(kind or "", "0")
    overlap = request.overlap
    if overlap == "0":
        return overlap
    allowed = {
        "time": (r"[1-9][0-9]*(ms|s|m|h|d)", "Write a time: 500ms, 5s, 2m, 1h or 1d"),
        "date": (r"[1-9][0-9]*d", "Write whole days: 1d"),
        "count": (r"[1-9][0-9]*", "Write a count, without a unit: 1000"),
        "text": (r"0", "Write 0: a text has no distance to go back by"),
    }
    pattern, remedy = allowed[kind or "text"]
    if not re.fullmatch(pattern, overlap):
        problem = f"overlap {overlap!r} does not suit the watermark {watermark.name!r}, a {watermark.type}"
        raise _refusal(table, "overlap", problem, remedy)
    return overlap


def _whole_days(overlap: str) -> str:
    """The time rounded up to whole days: rows of one date may commit in any order all day."""
    match = re.fullmatch(r"([0-9]+)(ms|s|m|h|d)?", overlap)
    assert match is not None, overlap  # the configuration checked it
    milliseconds = int(match[1]) * {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}.get(
        match[2], 0
    )
    return f"{-(-milliseconds // 86_400_000)}d" if milliseconds else "0"


def _column(schema: TableSchema, key: str, name: str) -> Column:
    column = _find(schema, name)
    if column is None:
        names = [column.name for column in schema.columns]
        remedy = _nearest(name, names, "Its columns are")
        raise _refusal(schema.table, key, f"{key} names {name!r}, which is not a column", remedy)
    return column


def _find(schema: TableSchema, name: str) -> Column | None:
    exact = schema.column(name)
    return exact or next((column for column in schema.columns if column.name.lower() == name.lower()), None)


def _nearest(name: str, names: Sequence[str], otherwise: str) -> str:
    if close := get_close_matches(name, names, n=1):
        return f"Did you mean {close[0]}?"
    return f"{otherwise}: {', '.join(names[:20]) or 'none'}"


def _refusal(table: TableId, key: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError("replicate", f"{table} (tables.{key})", problem, remedy)
