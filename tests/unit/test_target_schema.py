"""What differs between a table and a plan, and whether a statement mends it. [R10]"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdc.change import Column, TablePlan
from cdc.target import ServerVersion, TargetOptions
from cdc.target.ddl import define
from cdc.target.schema import Difference, FoundColumn, FoundTable, SchemaDifferenceKind, compare, held_codecs
from tests.support.trades import PLAN

NEW = ServerVersion(26, 9, 2)
SHARED = "SharedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}', _cdc_version)"


def plan_of(duckdb_type: str, *, nullable: bool = True) -> TablePlan:
    """A plan with one more column, `x`."""
    return replace(PLAN, columns=(*PLAN.columns, Column("x", duckdb_type, nullable)))


def found(x: str | None = None, engine: str = "ReplacingMergeTree(_cdc_version) ORDER BY id") -> FoundTable:
    """The table of `PLAN` as a server has it, with one more column `x` of this type."""
    types = [("id", "UUID"), ("seq", "Int64"), ("symbol", "Nullable(String)")]
    types += [("price", "Nullable(Decimal(18, 6))"), *([("x", x)] if x else [])]
    types += [("_cdc_version", "UInt64"), ("_cdc_deleted", "UInt8"), ("_cdc_synced_at", "DateTime")]
    columns = tuple(FoundColumn(name, kind, "", name == "id") for name, kind in types)
    names = tuple(name for name, _ in types if not name.startswith("_cdc"))
    return FoundTable(True, engine, columns, "View", names)


def differences(plan: TablePlan, there: FoundTable, server: ServerVersion = NEW) -> list[Difference]:
    return list(compare(plan, define(plan, TargetOptions(), "shop", server), there))


def test_the_same_table_does_not_differ() -> None:
    assert differences(PLAN, found()) == []


@pytest.mark.parametrize(
    "engine",
    [
        SHARED + " ORDER BY id SETTINGS index_granularity = 8192",
        "ReplicatedReplacingMergeTree('/a(b)/c', '{replica}', _cdc_version) PARTITION BY f(x) ORDER BY id",
        "ReplacingMergeTree(_cdc_version, _cdc_deleted) ORDER BY id",
        "ReplacingMergeTree(_cdc_version)",
    ],
)
def test_every_engine_that_replaces_by_the_version_will_do(engine: str) -> None:
    assert differences(PLAN, found(engine=engine)) == []


@pytest.mark.parametrize(
    ("duckdb_type", "there", "wanted"),
    [
        ("BIGINT", "Nullable(Int32)", "Nullable(Int64)"),
        ("BIGINT", "Nullable(UInt32)", "Nullable(Int64)"),
        ("BIGINT", "Int64", "Nullable(Int64)"),
        ("BIGINT", "Int8", "Nullable(Int64)"),
        ("DOUBLE", "Nullable(Float32)", "Nullable(Float64)"),
        ("DECIMAL(38,6)", "Nullable(Decimal(18, 6))", "Nullable(Decimal(38, 6))"),
    ],
)
def test_a_column_is_widened_where_every_value_fits(duckdb_type: str, there: str, wanted: str) -> None:
    (difference,) = differences(plan_of(duckdb_type), found(there))
    assert (difference.kind, difference.found, difference.wanted) == (
        SchemaDifferenceKind.OTHER_TYPE,
        there,
        wanted,
    )
    assert difference.statements == (f"ALTER TABLE `shop`.`trades` MODIFY COLUMN `x` {wanted}",)


@pytest.mark.parametrize(
    ("duckdb_type", "there"),
    [
        ("INTEGER", "Nullable(Int64)"),
        ("BIGINT", "Nullable(UInt64)"),
        ("UBIGINT", "Nullable(Int32)"),
        ("DECIMAL(18,4)", "Nullable(Decimal(18, 6))"),
        ("DECIMAL(38,8)", "Nullable(Decimal(18, 6))"),
        ("VARCHAR", "Nullable(Int64)"),
        ("FLOAT", "Nullable(Float64)"),
        ("DATE", "Nullable(DateTime)"),
    ],
)
def test_a_column_that_some_value_would_not_fit_is_not_touched(duckdb_type: str, there: str) -> None:
    (difference,) = differences(plan_of(duckdb_type), found(there))
    assert (difference.kind, difference.statements, difference.blocks) == (
        SchemaDifferenceKind.OTHER_TYPE,
        (),
        True,
    )
    assert "may not fit" in difference.reason


def test_a_column_as_an_older_server_made_it_is_used_as_it_is() -> None:
    plan = plan_of("TIMESTAMP_NS")
    there = found("Nullable(Int64)")
    definition = define(plan, TargetOptions(), "shop", NEW)
    assert compare(plan, definition, there) == ()
    assert held_codecs(plan, definition, there)[-1].clickhouse_type == "Nullable(Int64)"
    assert definition.codecs[-1].clickhouse_type == "Nullable(DateTime64(9, 'UTC'))"


def test_a_column_that_may_be_null_holds_one_that_may_not() -> None:
    plan = plan_of("BIGINT", nullable=False)
    there = found("Nullable(Int64)")
    definition = define(plan, TargetOptions(), "shop", NEW)
    assert compare(plan, definition, there) == ()
    assert held_codecs(plan, definition, there)[-1].clickhouse_type == "Nullable(Int64)"


def test_a_missing_column_is_added_behind_the_one_before_it() -> None:
    first, *_ = differences(plan_of("BIGINT"), found())
    assert first.kind is SchemaDifferenceKind.MISSING_COLUMN
    assert first.statements == ("ALTER TABLE `shop`.`trades` ADD COLUMN `x` Nullable(Int64) AFTER `price`",)
    assert str(first) == "column x is missing"


def test_a_missing_version_column_is_said_with_the_engine_that_lacks_it() -> None:
    there = replace(found(engine="MergeTree ORDER BY id"), columns=found().columns[:4])
    kinds = [difference.kind for difference in differences(PLAN, there)]
    assert kinds == [SchemaDifferenceKind.OTHER_ENGINE, *[SchemaDifferenceKind.MISSING_COLUMN] * 3]


def test_what_does_not_block_does_not_stop_the_replicator() -> None:
    left = differences(PLAN, replace(found("Nullable(String)"), view_engine="", view_columns=()))
    assert [(each.kind, each.blocks) for each in left] == [
        (SchemaDifferenceKind.EXTRA_COLUMN, False),
        (SchemaDifferenceKind.MISSING_VIEW, False),
    ]


def test_the_order_of_a_keys_columns_does_not_matter() -> None:
    plan = replace(PLAN, key=("seq", "id"))
    columns = tuple(replace(column, in_key=column.name in ("id", "seq")) for column in found().columns)
    assert differences(plan, replace(found(), columns=columns)) == []
