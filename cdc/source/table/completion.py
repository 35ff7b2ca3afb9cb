"""Which groups of rows are complete? The table's completion rule, evaluated by DuckDB over Arrow. [F8]"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from cdc.change import Completion, TablePlan
from cdc.errors import ConfigError, SourceError
from cdc.source.file.confined import confined
from cdc.source.quote import identifier

_REMEDY = (
    "Write a condition over the rows of a group, of columns that are replicated: "
    "bool_or(status IN ('FILLED', 'CANCELLED')), or sum(quantity) >= max(order_quantity)"
)


class CompletionRule:
    """The condition of one table. For one thread at a time."""

    def __init__(self, plan: TablePlan, rule: Completion) -> None:
        self._plan = plan
        self._rule = rule
        self._connection = _connect()

    def __repr__(self) -> str:
        return f"CompletionRule({self._plan.table}, {self._rule.condition})"

    def complete(self, rows: pa.Table) -> set[int]:
        """The numbers of the groups among `rows` for which the condition is true; unknown is not true.

        `rows` are the plan's columns, and last the number of each row's group, under a name of its own.

        Raises:
            SourceError: the condition cannot be evaluated over these rows.
        """
        number = identifier(rows.column_names[-1])
        sql = f"SELECT {number} FROM cdc_rows GROUP BY {number} HAVING ({self._rule.condition}\n)"
        self._connection.register("cdc_rows", rows)
        try:
            return {number for (number,) in self._connection.execute(sql).fetchall()}
        except duckdb.Error as error:
            raise SourceError(
                "evaluate tables.completion.condition of",
                self._plan.table,
                " ".join(str(error).split()),
                "Correct the condition; nothing is lost, the mark stays where it is",
            ) from None
        finally:
            self._connection.unregister("cdc_rows")

    def close(self) -> None:
        self._connection.close()


def check_completion(plan: TablePlan) -> None:
    """See that the plan's rule, if it has one, is a condition over its columns.

    Raises:
        ConfigError: it is not.
    """
    rule = plan.completion
    if rule is None:
        return
    columns = ", ".join(f"{identifier(column.name)} {column.type}" for column in plan.columns)
    with _connect() as connection:
        try:
            connection.execute(f"CREATE TABLE cdc_rows ({columns})")
            condition = f"({rule.condition}\n) AS found"
            group = identifier(rule.group)
            described = connection.execute(f"DESCRIBE SELECT {condition} FROM cdc_rows GROUP BY {group}")
            kind = described.fetchall()[0][1]
        except duckdb.Error as error:
            raise _refusal(plan, rule, " ".join(str(error).split("\n\n")[0].split())) from None
    if kind != "BOOLEAN":
        raise _refusal(plan, rule, f"it is a {kind}, not true or false")


def _refusal(plan: TablePlan, rule: Completion, problem: str) -> ConfigError:
    subject = f"{plan.table} (tables.completion.condition)"
    return ConfigError("replicate", subject, f"{rule.condition!r}: {problem}", _REMEDY)


def _connect() -> duckdb.DuckDBPyConnection:
    return confined({"threads": 1, "memory_limit": "256MB"})
