"""A user that may only insert is enough, where nothing has to be created. [S4]"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from cdc.errors import Meaning, TargetError
from cdc.target import ClickHouseTarget
from tests.support.modern.fixture import READER, WRITER, ModernServer
from tests.support.modern.users import User
from tests.support.places import Place, place
from tests.support.trades import PLAN, trades


@pytest.fixture(params=["clickhouse", "http"])
def modern(request: pytest.FixtureRequest, modern_server: ModernServer) -> Iterator[Place]:
    port = modern_server.native_port if request.param == "clickhouse" else modern_server.http_port
    with place(f"{request.param}://127.0.0.1:{port}", modern_server.query) as made:
        yield made


def as_user(place: Place, user: User, auto_create: bool = False) -> ClickHouseTarget:
    return place.target(user=user.name, password=SecretStr(user.password), auto_create=auto_create)


def test_a_user_that_may_only_insert_checks_the_table_and_inserts(modern: Place) -> None:
    with modern.target() as administrator:
        administrator.apply(PLAN)
    with as_user(modern, WRITER) as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 10)))
        assert [difference for difference in target.diff(PLAN) if difference.blocks] == []
        assert target.ping() > 0
        with pytest.raises(TargetError) as refused:
            target.rows(PLAN, None, None).read_all()
    assert modern.rows("trades") == 10
    assert (refused.value.code, refused.value.meaning) == (497, Meaning.STOP)


def test_a_user_that_may_only_insert_is_told_of_a_missing_column(modern: Place) -> None:
    with modern.target() as administrator:
        administrator.apply(PLAN)
    modern.query(f"ALTER TABLE {modern.database}.trades DROP COLUMN symbol")
    with as_user(modern, WRITER) as target, pytest.raises(TargetError, match="symbol is missing") as refused:
        target.open(PLAN)
    assert "cdc schema apply" in refused.value.remedy


def test_a_user_that_may_not_create_is_told_what_it_lacks(modern: Place) -> None:
    with as_user(modern, WRITER, auto_create=True) as target, pytest.raises(TargetError) as refused:
        target.open(PLAN)
    assert (refused.value.code, refused.value.meaning) == (497, Meaning.STOP)
    assert "Grant this user the missing right" in refused.value.remedy


def test_a_user_that_may_not_insert_stops_at_the_first_insert(modern: Place) -> None:
    with modern.target() as administrator:
        administrator.apply(PLAN)
    with as_user(modern, READER) as target:
        table = target.open(PLAN)
        with pytest.raises(TargetError) as refused:
            table.send(table.encode(trades(1, 10)))
    assert (refused.value.code, refused.value.meaning) == (497, Meaning.STOP)


def test_the_grants_that_are_printed_are_the_insert_alone(modern: Place) -> None:
    with modern.target() as target:
        assert target.grants(PLAN, "writer") == (f"GRANT INSERT ON `{modern.database}`.`trades` TO `writer`",)
