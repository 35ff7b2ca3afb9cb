"""What does a statement ask of the wire: does it bring data, in which format, for which columns?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"""\s+|--[^\n]*|\#[!\ ][^\n]*|/\*.*?\*/   # space and comments
    |'(?:[^'\\]|\\.|'')*'                       # string
    |`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*"  # quoted identifier
    |\$(\w*)\$.*?\$\1\$                         # heredoc
    |\w+|.""",
    re.DOTALL | re.VERBOSE,
)
_BLANK = re.compile(rb"\s|--|\#[! ]|/\*")


@dataclass(frozen=True)
class Token:
    text: bytes
    start: int
    end: int

    @property
    def word(self) -> bytes:
        return self.text.upper()


@dataclass(frozen=True)
class Insert:
    """An INSERT whose data come with it or after it.

    `head` is the statement without VALUES or FORMAT and what follows; `table` the table or table function as
    DESCRIBE TABLE takes it; `columns` the names listed (None: all); `excluded` the names after `* EXCEPT`;
    `format` what the text names; `data` what follows it in the text.
    """

    head: str
    table: str
    columns: tuple[str, ...] | None
    excluded: tuple[str, ...]
    format: str
    data: bytes


def first_words(sql: bytes, count: int) -> list[bytes]:
    """The first words of a statement in capitals, comments skipped."""
    words: list[bytes] = []
    for token in _tokens(sql):
        if len(words) == count:
            break
        words.append(token.word)
    return words


def parse_insert(sql: bytes) -> Insert | None:
    """The INSERT this is; None for any other statement, INSERT … SELECT and FROM INFILE included."""
    tokens = list(_tokens(sql))
    if not tokens or tokens[0].word != b"INSERT":
        return None
    at = 1
    while at < len(tokens) and tokens[at].word in (b"INTO", b"TABLE"):
        at += 1
    if function := at < len(tokens) and tokens[at].word == b"FUNCTION":
        at += 1
    if at >= len(tokens):
        return None
    table_start = tokens[at].start
    at += 1
    while at + 1 < len(tokens) and tokens[at].text == b".":
        at += 2
    if function:
        at = _past_brackets(tokens, at)
    table = _text(sql[table_start : tokens[at - 1].end])
    columns: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    if at < len(tokens) and tokens[at].text == b"(":
        if at + 1 < len(tokens) and tokens[at + 1].word in (b"SELECT", b"WITH"):
            return None
        end = _past_brackets(tokens, at)
        columns, excluded = _names(tokens[at + 1 : end - 1])
        at = end
    while at < len(tokens) and tokens[at].word not in (b"VALUES", b"FORMAT"):
        if tokens[at].word in (b"SELECT", b"WITH", b"FROM", b"WATCH"):
            return None
        at = _past_brackets(tokens, at)
    if at == len(tokens):
        return Insert(_text(sql), table, columns, excluded, "Values", b"")
    head = _text(sql[: tokens[at].start])
    if tokens[at].word == b"VALUES":
        return Insert(head, table, columns, excluded, "Values", sql[tokens[at].end :].lstrip())
    format_ = tokens[at + 1] if at + 1 < len(tokens) else tokens[at]
    data = re.sub(rb"\A[ \t]*(?:\r?\n|;)?", b"", sql[format_.end :], count=1)
    return Insert(head, table, columns, excluded, format_.text.decode(), data)


def without_format(sql: bytes) -> bytes:
    """The statement without trailing FORMAT clause and semicolon, which the native protocol ignores."""
    tokens = list(_tokens(sql))
    while tokens and tokens[-1].text == b";":
        tokens.pop()
    if not tokens:
        return b""
    for at in range(len(tokens) - 2, 0, -1):
        if tokens[at].word == b"FORMAT" and (at + 2 == len(tokens) or tokens[at + 2].word == b"SETTINGS"):
            tail = sql[tokens[at + 1].end : tokens[-1].end]
            return sql[: tokens[at].start].rstrip() + tail
    return sql[: tokens[-1].end]


def _text(sql: bytes) -> str:
    return sql.decode("utf-8", "surrogateescape")


def _tokens(sql: bytes) -> Iterator[Token]:
    for match in _TOKEN.finditer(sql):
        if not _BLANK.match(match.group()):
            yield Token(match.group(), match.start(), match.end())


def _past_brackets(tokens: list[Token], at: int) -> int:
    """The index after the token at `at`, or after the closing bracket where that token opens one."""
    depth = 0
    while at < len(tokens):
        depth += {b"(": 1, b")": -1}.get(tokens[at].text, 0)
        at += 1
        if depth <= 0:
            break
    return at


def _names(tokens: list[Token]) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The columns listed, or none and those excluded where the list is `* EXCEPT (…)`."""
    parts: list[list[bytes]] = [[]]
    for token in tokens:
        if token.text == b",":
            parts.append([])
        elif token.word not in (b"(", b")", b"*", b"EXCEPT"):
            parts[-1].append(token.text)
    names = tuple("".join(map(_unquoted, part)) for part in parts if part)
    if tokens and tokens[0].text == b"*":
        return None, names
    return names, ()


def _unquoted(name: bytes) -> str:
    if name[:1] in (b"`", b'"'):
        quote = name[:1]
        return re.sub(rb"\\(.)", rb"\1", name[1:-1].replace(quote * 2, quote)).decode()
    return name.decode()
