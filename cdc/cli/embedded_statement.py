"""How does a query reach ClickHouse's engine in this very process without being more than a query there?

What is one SELECT to DuckDB may be a script to ClickHouse, which reads a backslash as an escape and has
quotes, comments and clauses of its own. On a server `readonly = 1` and the user's grants bound what comes of
it. The embedded engine runs as this user, and `readonly` stops neither INTO OUTFILE nor the function `file`
nor its database `default`, in which every file is a table. So here the statement is written anew: from words,
numbers, texts, quoted names and operators, each quoted as ClickHouse does. What is none of these is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cdc.errors import SourceError
from cdc.target.quote import quote_identifier, quote_string

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|--[^\n]*(?:\n|$))
    |(?P<text>'(?:[^']|'')*')
    |(?P<name>"(?:[^"]|"")+")
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)
    |(?P<operator>::|<=|>=|<>|!=|==|\|\||->|/(?!\*)|[-+*%(),.=<>\[\]:])""",
    re.VERBOSE,
)
_NEVER = frozenset({"INTO", "OUTFILE", "INFILE", "SETTINGS", "FORMAT"})
"""Words of clauses that write a file or set something."""
_FILES = frozenset({"file"})
"""Functions that read a file where only reading is allowed; table functions are refused there."""
_EVERY_FILE = "default"
"""The embedded engine's database in which a name of a table is the path of a file."""

_Token = tuple[str, str]
"""Its kind, and its value without quotes."""


def for_embedded_engine(sql: str, database: str) -> str:
    """`sql`, one SELECT, as the embedded engine is to read it; `database` is the target's.

    Raises:
        SourceError: something in it might be more than a query there.
    """
    tokens = _tokens(sql)
    written = [(kind, value) for kind, value in tokens if kind != "space"]
    for at, (kind, value) in enumerate(written):
        before = written[at - 1] if at else ("", "")
        after = written[at + 1] if at + 1 < len(written) else ("", "")
        clause = kind == "word" and before != ("operator", ".") and after != ("operator", "(")
        if clause and value.upper() in _NEVER:
            raise _refusal(value)
        if kind in ("word", "name") and after == ("operator", "(") and value.lower() in _FILES:
            raise _refusal(f"{value}()")
        if kind == "name" and re.search(r"[/\\.\0]", value):
            raise _refusal(f'"{value}"')
        if kind in ("word", "name") and after == ("operator", ".") and value == _EVERY_FILE != database:
            raise _refusal(f"{value}.")
    return "".join(map(_spelled, tokens)).strip()


def _tokens(sql: str) -> Sequence[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None:
            raise _refusal(sql[at])
        kind, value = str(match.lastgroup), match[0]
        if kind in ("text", "name") and found and found[-1][0] in ("word", "number", "text", "name"):
            raise _refusal(f"{found[-1][1]}{value[0]}")  # e'...' and its like
        if kind in ("text", "name"):
            value = value[1:-1].replace(value[0] * 2, value[0])
        found.append((kind, value))
        at = match.end()
    return found


def _spelled(token: _Token) -> str:
    kind, value = token
    if kind == "space":
        return "\n" if "\n" in value else " "
    if kind == "text":
        return quote_string(value)
    return quote_identifier(value) if kind == "name" else value


def _refusal(found: str) -> SourceError:
    return SourceError(
        "run",
        "the query",
        f"{found!r} in it may be more than a query to the embedded engine",
        "Write plain SQL: words, numbers, 'texts', \"names\" and operators; or name the column otherwise",
    )
