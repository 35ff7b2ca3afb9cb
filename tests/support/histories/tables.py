"""The tables of a history: what each is there to try, its DDL, its configuration, how rows are compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One table. Every kind has `id`, `seq`, `a` and `b`, so that one statement fits all."""

    name: str
    ddl: str
    """The columns' definitions."""
    config: str
    """Lines of its [[tables]]."""
    columns: tuple[str, ...] = ("id", "seq", "a", "b")
    """Those compared."""
    versioned: bool = False
    shown: str = "TRUE"
    """The condition that a row is replicated."""


PLAIN = Kind("plain", "id BIGINT PRIMARY KEY, seq BIGINT, a BIGINT, b VARCHAR", "")
BARE = Kind("bare", "id BIGINT, seq BIGINT, a BIGINT, b VARCHAR", 'key = ["id"]')
MADE = Kind(
    "made",
    "id BIGINT PRIMARY KEY, twice BIGINT GENERATED ALWAYS AS (a * 2), seq BIGINT, a BIGINT,"
    " loud VARCHAR GENERATED ALWAYS AS (upper(b)), b VARCHAR",
    "",
    ("id", "twice", "seq", "a", "loud", "b"),
)
FILTERED = Kind(
    "filtered",
    "id BIGINT PRIMARY KEY, seq BIGINT, a BIGINT, b VARCHAR",
    "filter = \"b <> 'OUT'\"",
    shown="b <> 'OUT'",
)
VERSIONED = Kind(
    "versioned",
    "id BIGINT PRIMARY KEY, seq BIGINT, ver INTEGER, a BIGINT, b VARCHAR",
    'version = "ver"',
    ("id", "seq", "ver", "a", "b"),
    versioned=True,
)
ODD = Kind(
    "odd names",
    'id BIGINT PRIMARY KEY, seq BIGINT, "__cdc_hash" INTEGER, a BIGINT, "rowids" INTEGER, b VARCHAR,'
    ' "a ""quoted"" name" INTEGER',
    "",
    ("id", "seq", "__cdc_hash", "a", "rowids", "b", 'a "quoted" name'),
)

KINDS = (PLAIN, BARE, MADE, FILTERED, VERSIONED, ODD)
