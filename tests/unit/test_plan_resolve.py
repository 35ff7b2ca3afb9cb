"""Which tables a configuration replicates, and how."""

from __future__ import annotations

import pytest

from cdc.change import Column, TableId, TableSchema
from cdc.config import DefaultsConfig, TableConfig
from cdc.errors import ConfigError
from cdc.replicator.plan import LeftOut, Overlaps, Resolution, resolve

TRADES = TableSchema(
    TableId("main", "trades"),
    (
        Column("trade_id", "UUID", nullable=False),
        Column("seq", "BIGINT"),
        Column("Price", "DECIMAL(18,6)"),
        Column("executed_at", "TIMESTAMP_NS"),
        Column("day", "DATE"),
        Column("note", "VARCHAR"),
        Column("tags", "VARCHAR[]"),
        Column("ratio", "DOUBLE"),
    ),
    ("trade_id",),
)
LOG = TableSchema(TableId("main", "log"), (Column("seq", "BIGINT"), Column("line", "VARCHAR")))
BROKERS = TableSchema(TableId("main", "brokers"), (Column("broker_id", "INTEGER"),), ("broker_id",))


def resolved(*tables: TableConfig, defaults: DefaultsConfig | None = None) -> Resolution:
    return resolve(tables, defaults or DefaultsConfig(watermark="seq"), [TRADES, LOG, BROKERS])


def refusal(**wishes: object) -> ConfigError:
    table = TableConfig.model_validate({"name": "trades", **wishes})
    with pytest.raises(ConfigError) as caught:
        resolved(table)
    return caught.value


def test_without_listed_tables_each_table_with_a_key_and_the_default_watermark_is_replicated() -> None:
    resolution = resolved()
    (plan,) = resolution.plans
    assert plan.table == TRADES.table
    assert plan.target == "trades"
    assert plan.columns == TRADES.columns
    assert plan.key == ("trade_id",)
    assert plan.watermark == Column("seq", "BIGINT")
    assert plan.version is None


def test_a_table_that_is_left_out_is_named_with_the_reason() -> None:
    assert resolved().left_out == (
        LeftOut(BROKERS.table, "watermark names 'seq', which is not a column. Its columns are: broker_id"),
        LeftOut(
            LOG.table,
            "it has no primary key, and no key is configured. "
            "Name the columns that identify a row, in [[tables]] key or [defaults] key",
        ),
    )


def test_the_default_key_serves_tables_without_a_primary_key() -> None:
    plans = resolved(defaults=DefaultsConfig(key=("seq",), watermark="seq")).plans
    assert {plan.table.name: plan.key for plan in plans} == {"log": ("seq",), "trades": ("trade_id",)}


def test_a_listing_leaves_every_other_table_out() -> None:
    resolution = resolved(TableConfig(name="trades"))
    assert [plan.table for plan in resolution.plans] == [TRADES.table]
    assert [left.reason for left in resolution.left_out] == [
        "not listed; add it to [[tables]] to replicate it"
    ] * 2


def test_names_are_compared_as_duckdb_does_and_come_out_as_the_source_spells_them() -> None:
    table = TableConfig(name="MAIN.Trades", key=("TRADE_ID",), watermark="Executed_At", columns=("PRICE",))
    (plan,) = resolved(table).plans
    assert plan.table == TRADES.table
    assert plan.key == ("trade_id",)
    assert plan.watermark.name == "executed_at"
    assert plan.column_names == ("trade_id", "Price", "executed_at")


def test_key_watermark_and_version_are_among_the_columns_in_the_sources_order() -> None:
    table = TableConfig(name="trades", columns=("note",), version="executed_at", filter="note <> 'TEST'")
    (plan,) = resolved(table).plans
    assert plan.column_names == ("trade_id", "seq", "executed_at", "note")
    assert plan.version == "executed_at"
    assert plan.filter == "note <> 'TEST'"


@pytest.mark.parametrize(
    ("defaulted", "expected"), [("executed_at", "executed_at"), ("note", None), ("absent", None)]
)
def test_the_default_version_is_used_only_where_the_table_has_such_a_column(
    defaulted: str, expected: str | None
) -> None:
    (plan,) = resolved(defaults=DefaultsConfig(watermark="seq", version=defaulted)).plans
    assert plan.version == expected


def test_a_table_of_another_schema_gets_a_target_of_its_own() -> None:
    other = TableSchema(TableId("book", "trades"), TRADES.columns, TRADES.primary_key)
    plans = resolve([], DefaultsConfig(watermark="seq"), [TRADES, other]).plans
    assert [plan.target for plan in plans] == ["book_trades", "trades"]


@pytest.mark.parametrize(
    ("watermark", "overlap", "expected"),
    [
        ("seq", None, "77"),
        ("executed_at", None, "9s"),
        ("trade_id", None, "9s"),
        ("day", None, "1d"),
        ("note", None, "0"),
        ("seq", "5", "5"),
        ("Price", "5", "5"),
        ("executed_at", "250ms", "250ms"),
        ("day", "3d", "3d"),
        ("note", "0", "0"),
    ],
)
def test_the_overlap_is_in_the_unit_of_the_watermark(
    watermark: str, overlap: str | None, expected: str
) -> None:
    table = TableConfig(name="trades", watermark=watermark, overlap=overlap)
    (plan,) = resolve([table], DefaultsConfig(), [TRADES], Overlaps(time="9s", count=77)).plans
    assert plan.overlap == expected


@pytest.mark.parametrize(
    ("overlap", "days"), [("0", "0"), ("1ms", "1d"), ("24h", "1d"), ("25h", "2d"), ("2d", "2d")]
)
def test_the_default_overlap_of_a_date_is_rounded_up_to_whole_days(overlap: str, days: str) -> None:
    table = TableConfig(name="trades", watermark="day")
    (plan,) = resolve([table], DefaultsConfig(), [TRADES], Overlaps(time=overlap)).plans
    assert plan.overlap == days


@pytest.mark.parametrize(
    ("watermark", "overlap", "remedy"),
    [
        ("seq", "5s", "Write a count"),
        ("executed_at", "5", "Write a time"),
        ("day", "5s", "Write whole days"),
        ("note", "5", "Write 0"),
    ],
)
def test_an_overlap_in_the_wrong_unit_is_refused(watermark: str, overlap: str, remedy: str) -> None:
    error = refusal(watermark=watermark, overlap=overlap)
    assert error.subject == "main.trades (tables.overlap)"
    assert overlap in error.problem
    assert remedy in error.remedy


def test_an_unknown_table_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"no such table\. Did you mean trades\?"):
        resolved(TableConfig(name="trade"))


@pytest.mark.parametrize(
    ("wish", "problem", "remedy"),
    [
        ({"watermark": "sequence"}, "watermark names 'sequence', which is not a column", "Its columns are"),
        ({"watermark": "pric"}, "'pric', which is not a column", "Did you mean Price?"),
        ({"watermark": "ratio"}, "watermark 'ratio' is a DOUBLE", "TIMESTAMP"),
        ({"watermark": "tags"}, "watermark 'tags' is a VARCHAR[]", "TIMESTAMP"),
        ({"key": ["tags"]}, "key column 'tags' is a VARCHAR[]", "plain type"),
        ({"key": ["ratio"]}, "key column 'ratio' is a DOUBLE", "plain type"),
        ({"key": ["seq", "SEQ"]}, "seq, seq names a column twice", "once"),
        ({"key": ["id"]}, "key names 'id'", "Did you mean|Its columns are"),
        ({"version": "Price"}, "version 'Price' is a DECIMAL(18,6)", "at most 64 bits"),
        ({"columns": ["nothing"]}, "columns names 'nothing'", "Did you mean note|Its columns are"),
    ],
)
def test_a_wish_the_schema_cannot_meet_is_refused_with_table_key_and_remedy(
    wish: dict[str, object], problem: str, remedy: str
) -> None:
    error = refusal(**wish)
    assert error.subject == f"main.trades (tables.{next(iter(wish))})"
    assert problem in error.problem
    assert any(part in error.remedy for part in remedy.split("|"))


def test_a_listed_table_without_any_watermark_is_refused() -> None:
    with pytest.raises(ConfigError, match="no watermark column is configured"):
        resolve([TableConfig(name="trades")], DefaultsConfig(), [TRADES])


def test_two_tables_for_one_target_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'trades' would also be written for main\.trades"):
        resolved(TableConfig(name="trades"), TableConfig(name="log", key=("seq",), target="trades"))


def test_a_target_with_the_name_of_anothers_view_is_refused() -> None:
    with pytest.raises(ConfigError, match="'trades_current'"):
        resolved(TableConfig(name="trades"), TableConfig(name="log", key=("seq",), target="trades_current"))


def left_out_of_collision(
    *names: str, before: tuple[str, ...] = (), missing: tuple[str, ...] = ()
) -> tuple[list[str], dict[str, str]]:
    """Unlisted tables of these names: those replicated, and the reasons of those left out."""
    schemas = [
        TableSchema(TableId.parse(name), TRADES.columns, TRADES.primary_key)
        for name in names
        if name not in missing
    ]
    known = [TableId.parse(name) for name in before]
    found = resolve([], DefaultsConfig(watermark="seq"), schemas, before=known)
    assert all(left.listed for left in found.left_out), "a person should know"
    return [str(plan.table) for plan in found.plans], {
        str(left.table): left.reason for left in found.left_out
    }


@pytest.mark.parametrize(
    ("names", "before", "replicated", "left"),
    [
        (("a.t", "main.a_t", "u"), (), ["a.t", "main.u"], "main.a_t"),
        (("a.t", "main.a_t", "u"), ("a.t", "u"), ["a.t", "main.u"], "main.a_t"),
        (("a.t", "main.a_t", "u"), ("a_t", "u"), ["main.a_t", "main.u"], "a.t"),
        (("a_b.c", "a.b_c"), ("a_b.c",), ["a_b.c"], "a.b_c"),
        (("trades", "trades_current"), (), ["main.trades"], "main.trades_current"),
        (("trades", "trades_current"), ("trades_current",), ["main.trades_current"], "main.trades"),
        (("a.T", "main.a_t"), ("a_t",), ["main.a_t"], "a.T"),
        (("Trades", "trades_CURRENT"), (), ["main.Trades"], "main.trades_CURRENT"),
    ],
)
def test_of_unlisted_tables_for_one_target_the_one_that_was_there_is_replicated_and_the_other_told(
    names: tuple[str, ...], before: tuple[str, ...], replicated: list[str], left: str
) -> None:
    plans, reasons = left_out_of_collision(*names, before=before)
    assert plans == replicated
    assert list(reasons) == [left]
    assert "would also be written for" in reasons[left]
    assert "Give one of them another target in [[tables]]" in reasons[left]


def test_the_target_of_a_table_that_is_gone_is_not_filled_with_anothers_rows() -> None:
    plans, reasons = left_out_of_collision("a.t", "a_t", before=("a.t",), missing=("a.t",))
    assert plans == []
    assert "'a_t' would also be written for a.t, which is gone from the source" in reasons["main.a_t"]


def test_the_name_of_a_table_that_is_gone_is_kept_whatever_its_case() -> None:
    plans, reasons = left_out_of_collision("a_t", before=("A.T",))
    assert plans == []
    assert "which is gone from the source" in reasons["main.a_t"]


def test_of_listed_tables_for_one_target_a_replicator_leaves_out_the_later_one() -> None:
    tables = [TableConfig(name="trades"), TableConfig(name="log", key=("seq",), target="trades")]
    found = resolve(tables, DefaultsConfig(watermark="seq"), [TRADES, LOG], strict=False)
    assert [plan.table for plan in found.plans] == [TRADES.table]
    [left] = found.left_out
    assert (left.table, left.listed) == (LOG.table, True)
    assert "'trades' would also be written for main.trades" in left.reason
