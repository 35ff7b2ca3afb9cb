"""[[tables]] entries that are for several tables, and columns that are left out. [issue 16 part 1]"""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cdc.change import Column, TableId, TableSchema
from cdc.config import DefaultsConfig, TableConfig
from cdc.errors import ConfigError
from cdc.replicator.plan import Resolution, resolve
from cdc.replicator.requests import request_for

COLUMNS = (Column("id", "BIGINT", nullable=False), Column("seq", "BIGINT"), Column("Secret", "VARCHAR"))


def table(name: str, schema: str = "main") -> TableSchema:
    return TableSchema(TableId(schema, name), COLUMNS, ("id",))


SOURCE = [table("orders"), table("Orders_old"), table("order[1]"), table("fills"), table("orders", "desk")]


def entry(**given: object) -> TableConfig:
    return TableConfig.model_validate({"watermark": "seq", **given})


def resolved(*entries: TableConfig, strict: bool = True) -> Resolution:
    return resolve(entries, DefaultsConfig(), SOURCE, strict=strict)


def names(resolution: Resolution) -> list[str]:
    return [str(plan.table) for plan in resolution.plans]


def test_a_pattern_is_for_every_table_that_it_fits_without_case_and_in_its_schema() -> None:
    assert names(resolved(entry(name="ORD*"))) == ["main.Orders_old", "main.order[1]", "main.orders"]
    assert names(resolved(entry(name="*.orders"))) == ["desk.orders", "main.orders"]
    assert names(resolved(entry(name="order?"))) == ["main.orders"]


def test_what_a_pattern_is_not_for_is_not_listed() -> None:
    found = resolved(entry(name="ord*", exclude=["*_old", "order[1]"]))
    assert names(found) == ["main.order[1]", "main.orders"]  # [1] is a pattern too: it fits "order1"
    assert {str(each.table) for each in found.left_out} == {"main.Orders_old", "main.fills", "desk.orders"}
    assert {each.reason for each in found.left_out} == {"not listed; add it to [[tables]] to replicate it"}


def test_a_name_goes_before_a_pattern_and_the_first_pattern_before_others() -> None:
    own = entry(name="orders", target="own")
    first, second = entry(name="orders*", exclude_columns=["secret"]), entry(name="*")
    plans = {str(plan.table): plan for plan in resolved(second, first, own).plans}
    assert plans["main.orders"].target == "own"
    assert "Secret" in plans["main.Orders_old"].column_names  # the first of both patterns
    assert request_for([first, second, own], TableId("main", "orders")) is own
    assert request_for([first, second, own], TableId("main", "orders_old")) is first
    assert request_for([first, own], TableId("main", "fills")) is None


def test_a_table_whose_name_looks_like_a_pattern_is_meant_by_its_name() -> None:
    assert names(resolved(entry(name="order[1]"))) == ["main.order[1]"]


def test_a_pattern_that_fits_nothing_is_an_error_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"main\.trade\*.*no such table.*The source has: orders"):
        resolved(entry(name="trade*"), entry(name="orders"))
    found = resolved(entry(name="trade*"), entry(name="orders"), strict=False)
    assert names(found) == ["main.orders"]
    (left,) = [each for each in found.left_out if each.listed]
    assert str(left.table) == "main.trade*"


def test_columns_are_left_out_by_name_but_not_those_that_every_row_needs() -> None:
    (plan,) = resolved(entry(name="orders", exclude_columns=["SECRET"])).plans
    assert plan.column_names == ("id", "seq")
    with pytest.raises(ConfigError, match="'seq' is its key, watermark or version"):
        resolved(entry(name="orders", exclude_columns=["seq"]))
    with pytest.raises(ConfigError, match="'nope', which is not a column"):
        resolved(entry(name="orders", exclude_columns=["nope"]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "ord*", "target": "t"}, "cannot have one target"),
        ({"name": "orders", "exclude": ["x"]}, "exclude is for a name that is a pattern"),
        ({"name": "orders", "columns": ["id"], "exclude_columns": ["seq"]}, "not both"),
    ],
)
def test_what_contradicts_itself_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        entry(**given)
