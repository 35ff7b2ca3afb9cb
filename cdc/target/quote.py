"""How is text written into ClickHouse SQL? The only place that quotes identifiers and literals for it."""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[A-Za-z_][0-9A-Za-z_]*")

_ESCAPES = {"\\": "\\\\", "\0": "\\0", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

_RESERVED = frozenset({"distinct", "all", "table", "select", "from", "true", "false", "inf", "nan", "null"})
"""Words that ClickHouse 26.9 itself puts in backticks when it prints a type."""

_QUOTED = re.compile(r"""(`(?:[^`\\]|\\.)*`|'(?:[^'\\]|\\.)*')""", re.DOTALL)


def quote_identifier(name: str) -> str:
    """`name` in backticks, whatever it holds; backslashes escape, as ClickHouse reads them.

    Raises:
        ValueError: if `name` is empty, which ClickHouse refuses.
    """
    if not name:
        raise ValueError("an identifier cannot be empty")
    return f"`{_escaped(name, '`')}`"


def quote_element(name: str) -> str:
    """A tuple element's name as ClickHouse itself prints it in a type: bare where that is unambiguous."""
    if _PLAIN.fullmatch(name) and name.lower() not in _RESERVED:
        return name
    return quote_identifier(name)


def canonical_type(text: str) -> str:
    """A type's spelling without what releases print differently: line breaks, and backticks without need.

    Two spellings of one type have the same canonical form.
    """
    parts = _QUOTED.split(text)
    for at, part in enumerate(parts):
        if part.startswith("`"):
            bare = part[1:-1]
            plain = _PLAIN.fullmatch(bare) and bare.lower() not in _RESERVED
            parts[at] = bare if plain else part
        elif not part.startswith("'"):
            parts[at] = re.sub(r"(?<=\() ", "", re.sub(r"\s+", " ", part))
    return "".join(parts)


def quote_string(text: str) -> str:
    """`text` as a string literal, for DDL, where parameters cannot be used."""
    return f"'{_escaped(text, chr(39))}'"


def _escaped(text: str, quote: str) -> str:
    return "".join(_ESCAPES.get(letter, letter) for letter in text).replace(quote, "\\" + quote)
