"""Which columns of a table have a collation? DuckDB says so in the table's own SQL alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(r"""\s*("(?:[^"]|"")*"|'(?:[^']|'')*'|[(),]|[^\s"'(),]+)""")


def collations_of(sql: str) -> dict[str, str]:
    """The collation of each column that has one, by the column's name; `sql` is a `CREATE TABLE` as
    `duckdb_tables()` has it. By the collation `binary` texts are compared as without one."""
    found = {}
    for item in _items(sql):
        # A column's type and collation come before its constraints and its default, which may hold others.
        if len(item) >= 4 and [word.upper() for word in item[1:3]] == ["VARCHAR", "COLLATE"]:
            collation = _unquoted(item[3])
            if collation.lower() != "binary":
                found[_unquoted(item[0])] = collation
    return found


def _items(sql: str) -> Iterator[list[str]]:
    """The tokens of each item between the outermost parentheses, without what stands in inner ones."""
    depth, item = 0, list[str]()
    for token in _TOKEN.findall(sql):
        if token == "(":
            depth += 1
        elif token == ")":
            depth -= 1
        if (depth == 1 and token == ",") or (depth == 0 and item):
            yield item
            item = []
        elif depth == 1 and token not in "()":
            item.append(token)


def _unquoted(token: str) -> str:
    return token[1:-1].replace('""', '"') if token.startswith('"') else token
