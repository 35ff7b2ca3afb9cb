"""Tables compared with what a plan asks for, mended, or refused with the difference. [R10]"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from cdc.change import Column, TablePlan
from cdc.errors import Meaning, TargetError
from cdc.target.schema import SchemaDifferenceKind
from tests.support.places import Place
from tests.support.trades import COLUMNS, PLAN, trades

NOTE = Column("note", "VARCHAR")


def with_columns(*columns: Column) -> TablePlan:
    return replace(PLAN, columns=columns)


def kinds(place: Place, plan: TablePlan = PLAN) -> list[SchemaDifferenceKind]:
    with place.target() as target:
        return [difference.kind for difference in target.diff(plan)]


def test_a_missing_table_is_refused_with_the_command_that_makes_it(any_place: Place) -> None:
    with any_place.target() as target, pytest.raises(TargetError) as refused:
        target.open(PLAN)
    assert refused.value.meaning is Meaning.STOP
    assert "trades` is missing" in refused.value.problem
    assert "cdc schema apply" in refused.value.remedy
    assert any_place.query(f"SHOW TABLES FROM {any_place.database}") == ""


def test_after_apply_nothing_differs_and_the_table_opens(any_place: Place) -> None:
    with any_place.target() as target:
        before = [difference.kind for difference in target.diff(PLAN)]
        statements = target.apply(PLAN)
        after = target.diff(PLAN)
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 5)))
        again = target.apply(PLAN)
    assert before == [SchemaDifferenceKind.MISSING_TABLE, SchemaDifferenceKind.MISSING_VIEW]
    assert len(statements) == 2
    assert (after, again) == ((), ())
    assert any_place.rows("trades_current") == 5


def test_a_missing_database_is_made_too(any_place: Place) -> None:
    name = f"{any_place.database}_`\"'x"
    with any_place.target(database=name, auto_create=True) as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 5)))
        assert target.rows(PLAN, None, None).read_all().num_rows == 5
        assert target.query("SELECT count() AS n FROM trades").read_all().to_pylist() == [{"n": 5}]
    any_place.query(f"DROP DATABASE `{any_place.database}_\\`\"'x`")


def test_names_of_any_characters_are_only_names(any_place: Place) -> None:  # [S6]
    odd = "a`b\\c'd\"e; DROP"
    columns = tuple(replace(column, name=f"{column.name} {odd}") for column in COLUMNS)
    plan = TablePlan(PLAN.table, f"t {odd}", columns, key=(columns[0].name,), watermark=columns[1])
    with any_place.target(auto_create=True) as target:
        table = target.open(plan)
        batch = trades(1, 5)
        batch = replace(batch, plan=plan, rows=batch.rows.rename_columns(list(plan.column_names)))
        table.send(table.encode(batch))
        read = target.rows(plan, "2", "4").read_all()
        assert target.diff(plan) == ()
    assert read.column(columns[1].name).to_pylist() == [2, 3]


def test_a_column_that_the_source_added_is_added(any_place: Place) -> None:
    wider = with_columns(*COLUMNS, NOTE)
    with any_place.target(auto_create=True) as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 3)))
        assert [d.kind for d in target.diff(wider)] == [
            SchemaDifferenceKind.MISSING_COLUMN,
            SchemaDifferenceKind.OTHER_VIEW,
        ]
        table = target.open(wider)
        table.send(table.encode(trades(4, 2, plan=wider)))
        read = target.rows(wider, None, None).read_all()
        assert target.diff(wider) == ()
    assert read.column("note").to_pylist() == [None, None, None, "note 4", "note 5"]
    assert any_place.rows("trades_current WHERE note = 'note 4'") == 1


def test_a_column_that_the_source_dropped_stays_with_its_history(any_place: Place) -> None:
    wider = with_columns(*COLUMNS, NOTE)
    with any_place.target(auto_create=True) as target:
        table = target.open(wider)
        table.send(table.encode(trades(1, 3, plan=wider)))
        table = target.open(PLAN)
        table.send(table.encode(trades(4, 2)))
        left = target.diff(PLAN)
    assert [d.kind for d in left] == [SchemaDifferenceKind.EXTRA_COLUMN]
    assert "history" in left[0].reason
    assert any_place.rows("trades WHERE note != ''") == 3


def test_a_column_is_widened_where_every_value_fits(any_place: Place) -> None:
    narrow = with_columns(*COLUMNS[:3], replace(COLUMNS[3], type="DECIMAL(16,6)"))
    with any_place.target(auto_create=True) as target:
        target.open(narrow)
        assert [d.kind for d in target.diff(PLAN)] == [SchemaDifferenceKind.OTHER_TYPE]
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 3)))
        assert target.diff(PLAN) == ()


def test_a_narrower_column_is_refused_and_nothing_is_run(any_place: Place) -> None:
    with any_place.target(auto_create=True) as target:
        target.open(PLAN)
        changed = with_columns(*COLUMNS[:3], Column("price", "DOUBLE"), NOTE)
        with pytest.raises(TargetError, match="price") as refused:
            target.open(changed)
    assert refused.value.meaning is Meaning.STOP
    assert "may not fit" in refused.value.remedy
    assert "note" not in any_place.query(f"DESCRIBE TABLE {any_place.database}.trades")


def test_a_column_that_may_be_null_in_the_target_takes_one_that_may_not(any_place: Place) -> None:
    strict = with_columns(*COLUMNS[:2], replace(COLUMNS[2], nullable=False), COLUMNS[3])
    with any_place.target(auto_create=True) as target:
        target.open(PLAN)
        table = target.open(strict)
        batch = trades(1, 2, plan=strict)  # neither is without a symbol
        table.send(table.encode(batch))
        assert target.rows(strict, None, None).read_all().column("symbol").to_pylist() == ["SYM1", "SYM2"]


def test_a_row_without_a_key_is_rejected_and_the_others_are_sent(any_place: Place) -> None:
    loose = with_columns(replace(COLUMNS[0], nullable=True), *COLUMNS[1:])
    with any_place.target(auto_create=True) as target:
        table = target.open(loose)
        batch = trades(1, 3, plan=loose)
        ids = batch.rows.column("id").to_pylist()
        keyless = pa.array([ids[0], None, ids[2]], pa.binary(16))
        rows = batch.rows.set_column(0, "id", keyless)
        encoded = table.encode(replace(batch, rows=rows))
        table.send(encoded)
    assert (encoded.rows, len(encoded.rejected)) == (2, 1)
    assert "NULL" in encoded.rejected[0].reason
    assert any_place.rows("trades") == 2


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        ("MergeTree ORDER BY id", SchemaDifferenceKind.OTHER_ENGINE),
        ("ReplacingMergeTree(_cdc_version) ORDER BY seq", SchemaDifferenceKind.OTHER_KEY),
        ("ReplacingMergeTree(_cdc_version) ORDER BY (id, seq)", SchemaDifferenceKind.OTHER_KEY),
        ("ReplacingMergeTree(_cdc_deleted) ORDER BY id", SchemaDifferenceKind.OTHER_VERSION),
        ("ReplacingMergeTree ORDER BY id", SchemaDifferenceKind.OTHER_VERSION),
        ("Log", SchemaDifferenceKind.OTHER_ENGINE),
    ],
)
def test_a_table_in_which_rows_would_be_lost_is_refused(
    any_place: Place, engine: str, kind: SchemaDifferenceKind
) -> None:
    any_place.query(
        f"CREATE TABLE {any_place.database}.trades (id UUID, seq Int64, symbol Nullable(String), "
        "price Nullable(Decimal(18, 6)), _cdc_version UInt64, _cdc_deleted UInt8, "
        f"_cdc_synced_at DateTime DEFAULT now()) ENGINE = {engine}"
    )
    with any_place.target(auto_create=True) as target:
        assert kind in [difference.kind for difference in target.diff(PLAN) if difference.blocks]
        with pytest.raises(TargetError, match="trades") as refused:
            target.open(PLAN)
        with pytest.raises(TargetError):
            target.apply(PLAN)
    assert refused.value.meaning is Meaning.STOP
    assert "cdc resync" in refused.value.remedy


def test_a_table_made_by_hand_with_the_same_meaning_is_accepted(any_place: Place) -> None:
    any_place.query(
        f"CREATE TABLE {any_place.database}.trades (price Nullable(Decimal(18, 6)), seq Int64, id UUID, "
        "symbol Nullable(String), _cdc_version UInt64, _cdc_deleted UInt8, _cdc_synced_at DateTime, "
        "loaded Date DEFAULT today()) ENGINE = ReplacingMergeTree(_cdc_version) ORDER BY id"
    )
    with any_place.target() as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 5)))
    assert any_place.rows("trades WHERE loaded >= today() - 1") == 5
    assert kinds(any_place) == [SchemaDifferenceKind.MISSING_VIEW]


def test_a_table_with_the_views_name_is_not_dropped(any_place: Place) -> None:
    any_place.query(f"CREATE TABLE {any_place.database}.trades_current (x UInt8) ENGINE = Log")
    with any_place.target(auto_create=True) as target:
        target.open(PLAN)
        left = target.diff(PLAN)
    assert [(d.kind, d.statements, d.blocks) for d in left] == [(SchemaDifferenceKind.OTHER_VIEW, (), False)]
    assert any_place.query(f"EXISTS TABLE {any_place.database}.trades_current") == "1"


def test_the_names_of_the_added_columns_can_be_chosen(any_place: Place) -> None:
    names = {"version_column": "v", "deleted_column": "gone", "synced_at_column": "at"}
    with any_place.target(auto_create=True, **names) as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 5, version=9)))
        table.send(table.encode(trades(1, 2, version=10, deleted=True)))
        assert target.rows(PLAN, None, None).read_all().num_rows == 3
        assert target.diff(PLAN) == ()
    assert any_place.rows("trades_current") == 3
    assert any_place.query(f"SELECT max(v), max(gone) FROM {any_place.database}.trades") == "10\t1"


def test_the_server_stamps_when_a_row_arrived(any_place: Place) -> None:
    with any_place.target(auto_create=True) as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 5)))
    assert (
        any_place.rows(
            "trades WHERE abs(toUnixTimestamp(toDateTime(_cdc_synced_at)) - toUnixTimestamp(now())) < 600"
        )
        == 5
    )


def test_settings_and_partitions_of_the_configuration_are_in_the_table(any_place: Place) -> None:
    options = {"partition_by": "intDiv(seq, 10)", "engine_settings": {"index_granularity": "1024"}}
    with any_place.target(auto_create=True, **options) as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(0, 20)))
    described = any_place.query(f"SHOW CREATE TABLE {any_place.database}.trades")
    assert "PARTITION BY intDiv(seq, 10)" in described
    assert "index_granularity = 1024" in described
    parts = f"SELECT uniqExact(partition) FROM system.parts WHERE database = '{any_place.database}'"
    assert any_place.query(parts) == "2"
