"""Is a text one statement that only reads, where is it wrong, and how does ClickHouse read it?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from cdc.errors import SourceError
from cdc.source.file.confined import confined
from cdc.target.quote import quote_identifier

_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)
_LINE = re.compile(r"LINE (\d+): (.*)\n( *)\^")
_READS = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""What a query may be made of. DuckDB calls it a SELECT with `WITH x AS (COPY ... TO ...)` in it, too."""
_OF_THE_QUERY = (
    duckdb.ParserException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.InvalidInputException,
    duckdb.TypeMismatchException,
    duckdb.NotImplementedException,
    duckdb.PermissionException,
    duckdb.SyntaxException,
    duckdb.ConstraintException,
    duckdb.InvalidTypeException,
    duckdb.OutOfMemoryException,
)
"""DuckDB's errors that another statement would not have."""


def checked(sql: str) -> str:
    """`sql`, which is one statement that reads, in all its parts: SELECT and what DuckDB makes of it (FROM,
    VALUES, SHOW, DESCRIBE, SUMMARIZE), or EXPLAIN of one.

    Raises:
        SourceError: it is none; says where it is wrong.
    """
    statements = _parsed(sql)
    if len(statements) != 1:
        raise _refusal(f"there are {len(statements)} statements", "Write one SELECT")
    kind, text = statements[0].type, sql
    if kind == duckdb.StatementType.EXPLAIN:
        text = _EXPLAIN.sub("", sql, count=1)
        inner = _parsed(text)
        kind = inner[0].type if len(inner) == 1 else kind
    if kind != duckdb.StatementType.SELECT:
        raise _no_query(str(kind).removeprefix("StatementType."))
    for node in query_nodes(tree(text)):
        if node["type"] not in _READS:
            raise _no_query(str(node["type"]).removesuffix("_QUERY_NODE"))
    return sql.strip().rstrip(";").rstrip()


def tree(sql: str) -> dict[str, Any]:
    """What DuckDB understands one SELECT to be.

    Raises:
        SourceError: it is none, or too deep.
    """
    with confined() as connection:
        try:
            answer = connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [sql]).fetchall()[0][0]
            found: dict[str, Any] = json.loads(answer)
        except (duckdb.Error, RecursionError) as error:
            raise _refusal(str(error).partition("\n")[0], "Write a simpler SELECT") from None
    if found["error"]:
        raise _refusal(str(found["error_message"]), "Write one SELECT")
    return found


def query_nodes(part: Any) -> Iterator[dict[str, Any]]:
    """Every query within `part` of a tree: itself, those of its WITH, and subqueries."""
    rest = [part]
    while rest:
        each = rest.pop()
        if isinstance(each, list):
            rest += each
        elif isinstance(each, dict):
            rest += each.values()
            if "cte_map" in each:
                yield each


def sql_error(sql: str, error: SourceError, connection: duckdb.DuckDBPyConnection) -> SourceError | None:
    """What is wrong with `sql`, and where, if `error` came from that; None: the file is at fault.

    `connection` is the one that refused: a relation's error does not say where, an EXPLAIN's does.
    """
    cause = error.__context__
    if not isinstance(cause, _OF_THE_QUERY):
        return None
    message = str(cause)
    if _LINE.search(message) is None:
        try:
            connection.execute(f"EXPLAIN\n{sql}")
        except duckdb.Error as explained:
            if type(explained) is type(cause):
                return _refusal(_located(str(explained), sql, skipped=1), error.remedy)
    return _refusal(_located(message, sql), error.remedy)


def on_current_rows(sql: str, database: str, views: Sequence[str]) -> str:
    """`sql` for ClickHouse, where each table that has a view of current rows stands for that view."""
    tables = [view.removesuffix("_current") for view in views]
    named = ", ".join(
        f"{quote_identifier(name)} AS (SELECT * FROM {quote_identifier(database)}."  # noqa: S608 - quoted
        f"{quote_identifier(f'{name}_current')})"
        for name in tables
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql)
    )
    if not named:
        return sql
    return f"WITH {named} SELECT * FROM (\n{sql}\n)"  # noqa: S608 - the person's own


def _parsed(sql: str) -> list[duckdb.Statement]:
    with confined() as connection:
        try:
            return connection.extract_statements(sql)
        except duckdb.Error as error:
            raise _refusal(_located(str(error), sql), "Correct the statement") from None


def _located(message: str, sql: str, *, skipped: int = 0) -> str:
    """DuckDB's message on one line, with the place that its drawing under the statement points at; the
    statement was given to it after `skipped` lines."""
    found = _LINE.search(message)
    text = " ".join(message[: found.start() if found else None].split())
    if found is None:
        return text
    number, excerpt, spaces = int(found[1]), found[2], len(found[3])
    at = spaces - len(f"LINE {number}: ")
    number -= skipped
    if excerpt.startswith("..."):  # a long line is shown in part
        line = sql.split("\n")[number - 1]
        at += max(0, line.find(excerpt.removeprefix("...").removesuffix("..."))) - 3
    return f"{text} (line {number}, column {at + 1})"


def _no_query(name: str) -> SourceError:
    return _refusal(f"{name} is not a query; the file is only read", "Write one SELECT")


def _refusal(problem: str, remedy: str) -> SourceError:
    return SourceError("run", "the query", problem.rstrip("."), remedy)
