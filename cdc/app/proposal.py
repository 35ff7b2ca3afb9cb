"""Which tables of a source can be replicated as they are, and by which key and watermark?

What the schema says counts first: a primary key, a unique constraint, the type and name of a column. Whether
a column grows is then looked up in the newest rows of the live file. What was guessed is marked as such: a
person decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from cdc.change import Column, TableId, TableSchema
from cdc.config import TableConfig
from cdc.duckdb_types import WATERMARKS, meaning_of
from cdc.errors import SnapshotSuperseded, SourceError
from cdc.source import AnySnapshot, AnySource
from cdc.source.quote import identifier

SAMPLE_ROWS, SAMPLE_VALUES = 100_000, 2_000_000
"""Of the newest rows of a table, that are looked at; fewer rows where many columns are."""
_TRIES = 50
_COUNTER = re.compile(r"(^|_)(seq|sequence|id|no|number|nr|offset|version|lsn|tick)$", re.IGNORECASE)
_CHANGED = re.compile(r"updat|modif|chang", re.IGNORECASE)
_IDENTIFIER = re.compile(r"(^|_)(id|uuid|guid|key)$", re.IGNORECASE)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the newest rows of a table say of one column."""

    rows: int
    nulls: int
    """Rows without a value."""
    steps_back: int
    """Rows whose value is less than that of the row before, in the order of their insertion."""
    values: int
    """Different values."""

    @property
    def grows(self) -> bool:
        return self.rows > 1 and not self.nulls and not self.steps_back and self.values > 1

    @property
    def unique(self) -> bool:
        return self.rows > 0 and not self.nulls and self.values == self.rows


@dataclass(frozen=True, slots=True)
class Proposal:
    """How a table can be replicated, or why not."""

    table: TableId
    key: tuple[str, ...] = ()
    """Columns to be named in the configuration; empty: its primary key."""
    watermark: str = ""
    why: tuple[str, ...] = ()
    """What the choice rests on, a clause each."""
    unsure: tuple[str, ...] = ()
    """What a person has to check, a sentence each."""
    left_out: str = ""
    """Why the table cannot be replicated as it is, and what to do; empty: it can."""


def propose(source: AnySource) -> tuple[Proposal, ...]:
    """A proposal for each table of the source, by name.

    Raises:
        SourceError: it cannot be read.
    """
    return tuple(_propose(schema, source) for schema in sorted(source.tables(), key=lambda each: each.table))


def _propose(schema: TableSchema, source: AnySource) -> Proposal:
    candidates = [each for each in schema.columns if _may_be_watermark(each)]
    if not candidates:
        return Proposal(
            schema.table,
            left_out=f"no column of it can be a watermark; add one that grows: a column of {WATERMARKS}",
        )
    keys = [] if _constraint(schema) else [each for each in schema.columns if _may_be_key(each)]
    evidence = _evidence(source, schema, list({each.name: each for each in (*candidates, *keys)}.values()))
    key = _key(schema, keys, evidence)
    if key is None:
        return Proposal(
            schema.table,
            left_out="it has no primary key or unique constraint, and no column that looks like one; "
            "name the columns that identify a row as its key",
        )
    names, why_key, unsure_key = key
    watermark = min(candidates, key=lambda each: _rank(each, evidence.get(each.name), schema))
    if not _can_be_written(schema.table, names, watermark.name):
        return Proposal(schema.table, left_out="a configuration cannot name it; give it a plainer name")
    why, unsure = _reason(watermark, evidence.get(watermark.name))
    return Proposal(
        schema.table,
        key=names,
        watermark=watermark.name,
        why=(why_key, f"watermark {why}"),
        unsure=tuple(each for each in (unsure_key, unsure) if each),
    )


def _can_be_written(table: TableId, key: Sequence[str], watermark: str) -> bool:
    """Whether an entry of [[tables]] can name them: dots and control characters are no part of its names."""
    entry = {"name": str(table), "key": list(key) or None, "watermark": watermark}
    try:
        found = TableConfig.model_validate(entry)
    except ValidationError:
        return False
    return TableId.parse(found.name) == table


def _may_be_watermark(column: Column) -> bool:
    """Texts may be one, but seldom are: nobody is to be offered a name or a symbol."""
    meaning = meaning_of(column.type)
    return meaning.may_be_watermark and not column.collation and meaning.overlap in ("count", "time", "date")


def _may_be_key(column: Column) -> bool:
    return meaning_of(column.type).may_be_key and _IDENTIFIER.search(column.name) is not None


def _constraint(schema: TableSchema) -> tuple[str, ...]:
    return schema.primary_key or next(iter(schema.unique), ())


def _key(
    schema: TableSchema, columns: Sequence[Column], evidence: Mapping[str, Evidence]
) -> tuple[tuple[str, ...], str, str] | None:
    """Its names where they have to be said, what they rest on, and what is to be checked."""
    if schema.primary_key:
        return (), f"key is its primary key ({', '.join(schema.primary_key)})", ""
    if schema.unique:
        return schema.unique[0], "key is unique by a constraint", ""
    for column in columns:
        found = evidence.get(column.name)
        if found is None or found.unique or not found.rows:
            rows = f"it was in {found.rows:,} rows" if found and found.rows else "there was no row to look at"
            unsure = f"No constraint keeps {column.name} unique ({rows}): two rows of one key become one."
            return (column.name,), f"key {column.name} by its name", unsure
    return None


def _rank(column: Column, found: Evidence | None, schema: TableSchema) -> tuple[object, ...]:
    """Least: the best watermark. A counter before a time, for two rows may have one time."""
    kind = meaning_of(column.type).overlap
    grows = found is not None and found.grows
    return (
        not grows if found is not None and found.rows else not _named_for_it(column),
        {"count": 0, "time": 1}.get(kind or "", 2),
        column.nullable,
        not _named_for_it(column),
        schema.columns.index(column),
    )


def _named_for_it(column: Column) -> bool:
    if meaning_of(column.type).overlap == "count":
        return _COUNTER.search(column.name) is not None
    return _CHANGED.search(column.name) is not None


def _reason(column: Column, found: Evidence | None) -> tuple[str, str]:
    """What a watermark rests on, and what is to be checked."""
    name = column.name
    if found is None or not found.rows:
        return f"{name} by its name and type", f"Does {name} grow? There was no row to look at."
    rows = f"the last {found.rows:,} rows" if found.rows > 1 else "the only row"
    if found.grows:
        return f"{name} grows in {rows}", ""
    if found.nulls:
        return f"{name} by its type", f"{name} is NULL in {found.nulls:,} of {rows}: such a row is read once."
    if found.steps_back:
        return (
            f"{name} by its type",
            f"{name} goes back {found.steps_back:,} times in {rows}: rows that are further behind than the "
            "overlap are found in the log, or by a comparison.",
        )
    return f"{name} by its type", f"Does {name} grow? It has one value in {rows}."


def _evidence(source: AnySource, schema: TableSchema, columns: Sequence[Column]) -> dict[str, Evidence]:
    """What the newest rows say; nothing where a column hides the row ids, which tell which rows these are."""
    if any(each.name.lower() == "rowid" for each in schema.columns):
        return {}
    names = [identifier(each.name) for each in columns]
    counted = ", ".join(
        f"count({name}), count(*) FILTER (c{number} < b{number}), count(DISTINCT {name})"
        for number, name in enumerate(names)
        for name in [f"c{number}"]
    )
    values = ", ".join(
        f"{name} AS c{number}, lag({name}) OVER (ORDER BY rowid) AS b{number}"
        for number, name in enumerate(names)
    )

    sample = min(SAMPLE_ROWS, SAMPLE_VALUES // len(columns))

    def ask(snapshot: AnySnapshot) -> list[int]:
        table = snapshot.relation(schema.table)
        sql = (
            f"SELECT count(*), {counted} FROM (SELECT {values} FROM {table} "  # noqa: S608
            f"WHERE rowid > (SELECT max(rowid) FROM {table}) - {sample})"
        )
        with closing(snapshot.query(sql)) as answer:
            return [int(column[0].as_py()) for column in answer.read_all().columns]

    rows, *found = _of_one_snapshot(source, ask)
    return {
        column.name: Evidence(rows, rows - found[at], found[at + 1], found[at + 2])
        for column, at in zip(columns, range(0, len(found), 3), strict=True)
    }


def _of_one_snapshot(source: AnySource, ask: Callable[[AnySnapshot], Answer]) -> Answer:
    for _ in range(_TRIES):
        try:
            with source.snapshot() as snapshot:
                return ask(snapshot)
        except SnapshotSuperseded:
            continue
    raise SourceError(
        "look at",
        source.path,
        f"each of {_TRIES} snapshots was superseded by a checkpoint",
        "Try again, or raise the writer's checkpoint_threshold",
    )
