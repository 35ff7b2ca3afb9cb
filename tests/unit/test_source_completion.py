"""The completion rule: a SQL condition over a group, checked at the start. [F8, S6]"""

from __future__ import annotations

from dataclasses import replace

import duckdb
import pyarrow as pa
import pytest

from cdc.change import Column, Completion, TableId, TablePlan
from cdc.errors import ConfigError, SourceError
from cdc.source import CompletionRule, check_completion

COLUMNS = {
    "id": "UUID",
    "order_id": "HUGEINT",
    "status": "ENUM('NEW', 'FILLED', 'CANCELLED')",
    "quantity": "DECIMAL(18,6)",
    "order_quantity": "DECIMAL(18,6)",
    "traded_at": "TIMESTAMP WITH TIME ZONE",
}


def plan(condition: str) -> TablePlan:
    return TablePlan(
        table=TableId("main", "fills"),
        target="fills",
        columns=tuple(Column(name, kind) for name, kind in COLUMNS.items()),
        key=("id",),
        watermark=Column("traded_at", COLUMNS["traded_at"]),
        completion=Completion("order_id", condition, 60.0, 1000, 1 << 20),
    )


def complete(condition: str, rows: pa.Table) -> set[int]:
    made = plan(condition)
    assert made.completion is not None
    rule = CompletionRule(made, made.completion)
    try:
        return rule.complete(rows)
    finally:
        rule.close()


@pytest.fixture
def rows() -> pa.Table:
    """As a source hands them out: group 0 is filled, group 1 is not, group 2 is cancelled."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "arrow_lossless_conversion": True,
        "produce_arrow_string_view": False,
    }
    with duckdb.connect(config=config) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        connection.execute(f"CREATE TABLE fills ({columns}, n INTEGER)")
        for n, status, quantity in ((0, "NEW", 1), (0, "FILLED", 2), (1, "NEW", 1), (2, "CANCELLED", 1)):
            connection.execute(
                "INSERT INTO fills VALUES (uuid(), ?, ?, ?, 3, TIMESTAMPTZ '2026-01-01 00:00:00+00', ?)",
                [n, status, quantity, n],
            )
        return connection.sql("SELECT * EXCLUDE n, n AS __cdc_group_ FROM fills").to_arrow_table()


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("bool_or(status IN ('FILLED', 'CANCELLED'))", {0, 2}),
        ("sum(quantity) >= max(order_quantity) -- a comment", {0}),
        ("count(*) > 1 OR any_value(order_id) = 2", {0, 2}),
        ("max(traded_at) < TIMESTAMPTZ '2026-01-01 00:00:01+00' AND min(id) IS NOT NULL", {0, 1, 2}),
        ("max(NULL::BOOLEAN)", set()),
    ],
)
def test_a_group_is_complete_when_the_condition_is_true(
    rows: pa.Table, condition: str, expected: set[int]
) -> None:
    check_completion(plan(condition))
    assert complete(condition, rows) == expected


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("bool_or(state = 'FILLED')", "state"),
        ("status = 'FILLED'", "GROUP BY"),
        ("sum(quantity)", r"it is a DECIMAL\(38,6\), not true or false"),
        ("bool_or(", "syntax error"),
        ("(SELECT count(*) FROM 'secrets.csv') > 0", "disabled"),
        ("true); DROP TABLE cdc_rows; SELECT (true", "Error"),
    ],
)
def test_a_condition_that_cannot_be_one_is_refused_at_the_start(condition: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        check_completion(plan(condition))
    assert caught.value.subject == "main.fills (tables.completion.condition)"
    assert "bool_or(status IN" in caught.value.remedy


def test_a_table_without_a_rule_is_not_checked() -> None:
    check_completion(replace(plan("nonsense"), completion=None))


def test_a_condition_that_fails_over_the_rows_halts_the_table_with_a_remedy(rows: pa.Table) -> None:
    with pytest.raises(SourceError, match="Conversion") as caught:
        complete("bool_or(CAST(CAST(status AS VARCHAR) AS INTEGER) = 1)", rows)
    assert "condition" in caught.value.remedy
