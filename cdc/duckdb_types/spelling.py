"""Which type does this DuckDB spelling name? `MAP(VARCHAR, INTEGER[3])[]` as a tree."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"(?:[^"]|"")*")|(?P<text>'(?:[^']|'')*')|(?P<word>[^\W\d]\w*)"""
    r"""|(?P<number>\d+)|(?P<mark>[(),\[\]]))"""
)

T = TypeVar("T")

_ALIASES = {
    "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE",
    "TIMETZ": "TIME WITH TIME ZONE",
    "TIMESTAMP_US": "TIMESTAMP",
    "DATETIME": "TIMESTAMP",
    "VARINT": "BIGNUM",
    "BITSTRING": "BIT",
    "TIMESTAMP_NS WITH TIME ZONE": "TIMESTAMPTZ_NS",
}


@dataclass(frozen=True, slots=True)
class DuckType:
    """A type. `name` is upper case; `LIST` and `ARRAY` stand for `T[]` and `T[n]`."""

    name: str
    members: tuple[tuple[str, DuckType], ...] = ()
    """Element types with their names: of LIST, ARRAY and MAP and TUPLE unnamed, of STRUCT and UNION named."""
    numbers: tuple[int, ...] = ()
    """Precision and scale of DECIMAL, length of ARRAY."""
    labels: tuple[str, ...] = ()
    """The values of ENUM, in order."""

    @property
    def types(self) -> tuple[DuckType, ...]:
        return tuple(member for _, member in self.members)


def parse_type(text: str) -> DuckType:
    """The type that `text` spells, as `duckdb_columns()` and `typeof` spell it.

    Raises:
        ValueError: if `text` is not a type's spelling. An unknown name is no error here.
    """
    parser = _Parser(text)
    found = parser.type()
    parser.end()
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        self.at = 0
        position, end = 0, len(text.rstrip())
        while position < end:
            token = _TOKEN.match(text, position)
            if token is None or token.lastgroup is None:
                raise self.wrong()
            self.tokens.append((token.lastgroup, token[token.lastgroup]))
            position = token.end()

    def wrong(self) -> ValueError:
        return ValueError(f"{self.text!r} is not a DuckDB type")

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("", "")

    def next(self, kind: str) -> str:
        found, value = self.peek()
        if found != kind:
            raise self.wrong()
        self.at += 1
        return value

    def accept(self, mark: str) -> bool:
        if self.peek() != ("mark", mark):
            return False
        self.at += 1
        return True

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            raise self.wrong()

    def end(self) -> None:
        if self.at != len(self.tokens):
            raise self.wrong()

    def type(self) -> DuckType:
        found = self.scalar()
        while self.accept("["):
            if self.accept("]"):
                found = DuckType("LIST", (("", found),))
            else:
                found = DuckType("ARRAY", (("", found),), (int(self.next("number")),))
                self.expect("]")
        return found

    def scalar(self) -> DuckType:
        if self.peek()[0] == "quoted":  # DuckDB spells the type of a bare NULL so
            return DuckType(unquote(self.next("quoted")).upper())
        words = [self.next("word").upper()]
        while self.peek()[0] == "word":
            words.append(self.next("word").upper())
        name = _ALIASES.get(" ".join(words), " ".join(words))
        if not self.accept("("):
            return DuckType(name)
        if name in ("STRUCT", "UNION"):
            return DuckType(name, tuple(self.several(self.member)))
        if name in ("MAP", "TUPLE"):
            return DuckType(name, tuple(("", member) for member in self.several(self.type)))
        if name == "ENUM":
            return DuckType(name, labels=tuple(self.several(self.label)))
        if name == "DECIMAL":
            return DuckType(name, numbers=tuple(self.several(lambda: int(self.next("number")))))
        self.several(lambda: self.next(self.peek()[0]))  # GEOMETRY('EPSG:4326'): what is stored is the same
        return DuckType(name)

    def several(self, item: Callable[[], T]) -> list[T]:
        found = [item()]
        while self.accept(","):
            found.append(item())
        self.expect(")")
        return found

    def member(self) -> tuple[str, DuckType]:
        name = unquote(self.next("quoted")) if self.peek()[0] == "quoted" else self.next("word")
        return name, self.type()

    def label(self) -> str:
        return self.next("text")[1:-1].replace("''", "'")


def unquote(identifier: str) -> str:
    return identifier[1:-1].replace('""', '"')
