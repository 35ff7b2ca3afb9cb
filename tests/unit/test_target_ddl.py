"""The statements that make a table, on old and new servers, alone and in a cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdc.change import Column, TableId, TablePlan
from cdc.errors import TargetError
from cdc.target import ServerVersion, TargetOptions
from cdc.target.ddl import TableDefinition, define
from tests.support.trades import COLUMNS, PLAN

OLD = ServerVersion(18, 16, 1)
NEW = ServerVersion(26, 9, 2)


def definition(server: ServerVersion = NEW, plan: TablePlan = PLAN, **options: object) -> TableDefinition:
    return define(plan, replace(TargetOptions(), **options), "shop", server)  # type: ignore[arg-type]


def test_a_table_on_a_current_server() -> None:
    assert definition().create_table() == (
        "CREATE TABLE IF NOT EXISTS `shop`.`trades` (\n"
        "  `id` UUID,\n"
        "  `seq` Int64,\n"
        "  `symbol` Nullable(String),\n"
        "  `price` Nullable(Decimal(18, 6)),\n"
        "  `_cdc_version` UInt64,\n"
        "  `_cdc_deleted` UInt8,\n"
        "  `_cdc_synced_at` DateTime64(3, 'UTC') DEFAULT now64(3)\n"
        ")\n"
        "ENGINE = ReplacingMergeTree(`_cdc_version`)\n"
        "ORDER BY (`id`)\n"
        "SETTINGS non_replicated_deduplication_window = 1000"
    )


def test_a_table_on_the_oldest_server_has_neither_its_clock_nor_its_setting() -> None:
    made = definition(OLD).create_table()
    assert "`_cdc_synced_at` DateTime DEFAULT now()" in made
    assert "SETTINGS" not in made


def test_a_table_in_a_cluster_is_replicated_by_the_servers_own_path() -> None:
    made = definition(cluster="prod eu")
    assert "`shop`.`trades` ON CLUSTER `prod eu` (" in made.create_table()
    assert "ENGINE = ReplicatedReplacingMergeTree(`_cdc_version`)" in made.create_table()
    assert "deduplication_window" not in made.create_table()
    for statement in (made.create_database(), made.create_view(), made.drop_view(), made.grant("u")):
        assert "ON CLUSTER `prod eu`" in statement


def test_an_old_cluster_is_told_the_path() -> None:
    assert (
        "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/shop/trades', '{replica}', `_cdc_version`)"
        in definition(OLD, cluster="prod").create_table()
    )


def test_partition_and_settings_come_from_the_configuration() -> None:
    made = definition(
        partition_by="toYYYYMM(at)", engine_settings={"index_granularity": "1024"}
    ).create_table()
    assert "\nPARTITION BY toYYYYMM(at)\nORDER BY" in made
    assert made.endswith("SETTINGS non_replicated_deduplication_window = 1000, index_granularity = 1024")


def test_the_view_shows_the_sources_columns_of_what_is_there() -> None:
    assert definition(deleted_column="gone").create_view() == (
        "CREATE VIEW IF NOT EXISTS `shop`.`trades_current` AS\n"
        "SELECT `id`, `seq`, `symbol`, `price` FROM `shop`.`trades` FINAL WHERE `gone` = 0"
    )


def test_an_insert_names_every_column_but_the_servers_own() -> None:
    assert definition().insert() == (
        "INSERT INTO `shop`.`trades` (`id`, `seq`, `symbol`, `price`, `_cdc_version`, `_cdc_deleted`)"
    )


def test_a_name_cannot_leave_its_quotes() -> None:  # [S6]
    odd = Column("a`; DROP TABLE x", "BIGINT", nullable=False)
    plan = TablePlan(TableId("main", "t"), "t`)", (odd,), key=(odd.name,), watermark=odd)
    made = definition(plan=plan).create_table()
    assert "`t\\`)`" in made
    assert "`a\\`; DROP TABLE x` Int64" in made


def test_a_key_is_never_nullable_in_the_target() -> None:
    plan = replace(PLAN, columns=(replace(COLUMNS[0], nullable=True), *COLUMNS[1:]))
    assert "`id` UUID," in definition(plan=plan).create_table()


def test_a_column_with_the_name_of_an_added_one_is_refused() -> None:
    plan = replace(PLAN, columns=(*COLUMNS, Column("_cdc_version", "BIGINT")))
    with pytest.raises(TargetError, match="'_cdc_version'") as refused:
        definition(plan=plan)
    assert "version_column" in refused.value.remedy
