"""A server that hangs, dies or refuses: each is an error with the right meaning, never a wait. [R1]"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cdc.change import Encoded
from cdc.clock import SystemClock
from cdc.config.endpoint import parse_endpoint
from cdc.errors import Meaning, TargetError
from cdc.target import ClickHouseTable, ClickHouseTarget, TargetOptions, Timeouts, open_target
from cdc.target.route import Route
from tests.support.clickhouse import PASSWORD, ClickHouseServer
from tests.support.clock import FakeClock
from tests.support.modern.faults import Fault
from tests.support.modern.fixture import ModernServer
from tests.support.places import Place, place
from tests.support.trades import PLAN, trades
from tests.support.waiting import wait_until

SCHEMES = ("clickhouse", "http")
MODERN = ("modern-native", "modern-http", "embedded")
SHORT = Timeouts(connect=0.3, send=0.3, receive=0.3)


def url(server: ClickHouseServer | ModernServer, scheme: str, user: str = "") -> str:
    port = server.native_port if scheme == "clickhouse" else server.http_port
    return f"{scheme}://{user}127.0.0.1:{port}"


@pytest.fixture(params=SCHEMES)
def old(request: pytest.FixtureRequest, clickhouse_server: ClickHouseServer) -> Iterator[Place]:
    with place(url(clickhouse_server, request.param), clickhouse_server.query) as made:
        yield made


def refused(place: Place, user: str) -> TargetError:
    """The error of a ping and a query as `user`."""
    endpoint = parse_endpoint(str(place.endpoint).replace("://", f"://{user}@"))
    with open_target([endpoint], place.options()) as target, pytest.raises(TargetError) as caught:
        target.diff(PLAN)
    return caught.value


@pytest.mark.timeout(60)
def test_a_hung_server_is_a_fault_and_not_a_wait(old: Place, clickhouse_server: ClickHouseServer) -> None:
    with old.target(auto_create=True, timeouts=SHORT) as target:
        table = target.open(PLAN)
        encoded = table.encode(trades(1, 100))
        with clickhouse_server.frozen():
            with pytest.raises(TargetError, match="did not answer in time") as while_sending:
                table.send(encoded)
            with pytest.raises(TargetError, match="did not answer in time") as while_connecting:
                target.ping()
        table.send(encoded)
    assert while_sending.value.meaning is while_connecting.value.meaning is Meaning.RETRY
    # The frozen server had the first insert in its buffers: at least once, and once under FINAL.
    assert old.query(f"SELECT count() FROM {old.database}.trades FINAL") == "100"


def test_a_hung_server_does_not_keep_a_large_block_waiting(
    old: Place, clickhouse_server: ClickHouseServer
) -> None:
    with old.target(auto_create=True, timeouts=SHORT, compression="none") as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 1)))
        encoded = table.encode(trades(2, 400_000))  # more than socket buffers hold
        with clickhouse_server.frozen(), pytest.raises(TargetError) as caught:
            table.send(encoded)
    assert caught.value.meaning is Meaning.RETRY


def test_closing_ends_at_once_what_another_thread_waits_for(
    old: Place, clickhouse_server: ClickHouseServer
) -> None:
    with old.target(auto_create=True) as target:  # its time-outs are longer than this test may take
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 1)))
        sending = Sending(table, table.encode(trades(2, 10)))
        with clickhouse_server.frozen():
            sending.start()
            wait_until(lambda: sending.begun, "the insert to begin")
            target.close()
            sending.join(10)
            assert not sending.is_alive()
    assert sending.error is not None
    assert "was closed" in sending.error.problem


def test_a_server_killed_and_started_again_is_used_again(
    old: Place, clickhouse_server: ClickHouseServer
) -> None:
    with old.target(auto_create=True) as target:
        table = target.open(PLAN)
        encoded = table.encode(trades(1, 100))
        table.send(encoded)
        clickhouse_server.kill()
        with pytest.raises(TargetError) as down:
            table.send(encoded)
        clickhouse_server.start()
        table.send(encoded)
    assert down.value.meaning is Meaning.RETRY
    assert old.query(f"SELECT count() FROM {old.database}.trades FINAL") == "100"


def test_a_server_killed_during_an_insert_is_tried_again(
    old: Place, clickhouse_server: ClickHouseServer
) -> None:
    with old.target(auto_create=True) as target:
        table = target.open(PLAN)
        sending = Sending(table, table.encode(trades(1, 100_000)))
        with clickhouse_server.frozen():
            sending.start()
            wait_until(lambda: sending.begun, "the insert to begin")
            clickhouse_server.kill()
        sending.join(10)
        assert sending.error is not None
        assert sending.error.meaning is Meaning.RETRY
        clickhouse_server.start()
        table.send(sending.encoded)
    assert old.query(f"SELECT count() FROM {old.database}.trades FINAL") == "100000"


def test_an_idle_connection_that_a_restart_closed_is_made_anew_without_an_error(
    old: Place, clickhouse_server: ClickHouseServer
) -> None:
    with old.target(auto_create=True) as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 10)))
        clickhouse_server.kill()
        clickhouse_server.start()
        table.send(table.encode(trades(11, 10)))
    assert old.rows("trades") == 20


def test_a_server_that_is_not_there_is_tried_again(certificates: object) -> None:
    for scheme in SCHEMES:
        with (
            open_target([parse_endpoint(f"{scheme}://127.0.0.1:1")], TargetOptions()) as target,
            pytest.raises(TargetError, match="refused") as caught,
        ):
            target.ping()
        assert caught.value.meaning is Meaning.RETRY


def test_a_name_that_does_not_resolve_is_tried_again_and_named(old: Place) -> None:
    endpoint = parse_endpoint("clickhouse://no-such-host.invalid:9000")
    with open_target([endpoint], TargetOptions()) as target, pytest.raises(TargetError) as caught:
        target.ping()
    assert caught.value.meaning is Meaning.RETRY
    assert "no-such-host.invalid" in str(caught.value)
    assert "host name" in caught.value.remedy


def test_http_on_the_native_port_stops_with_a_hint(clickhouse_server: ClickHouseServer) -> None:
    endpoint = parse_endpoint(f"http://127.0.0.1:{clickhouse_server.native_port}")
    with open_target([endpoint], TargetOptions()) as target, pytest.raises(TargetError) as caught:
        target.ping()
    assert caught.value.meaning is Meaning.STOP
    assert "scheme and port" in caught.value.remedy


def test_a_wrong_password_stops_and_is_not_shown(old: Place) -> None:
    endpoint = parse_endpoint(str(old.endpoint).replace("://", "://keeper:not-this-one@"))
    with open_target([endpoint], old.options()) as target, pytest.raises(TargetError) as caught:
        target.diff(PLAN)
    assert caught.value.meaning is Meaning.STOP
    assert "password" in caught.value.remedy
    assert "not-this-one" not in f"{caught.value} {target!r} {old.options()!r}"


def test_a_password_of_any_characters_is_accepted(old: Place) -> None:
    from pydantic import SecretStr

    with old.target(user="keeper", password=SecretStr(PASSWORD), auto_create=True) as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 3)))
        assert PASSWORD not in repr(old.options(password=SecretStr(PASSWORD)))
    assert old.rows("trades") == 3


def test_an_unknown_user_stops(old: Place) -> None:
    error = refused(old, "nobody")
    assert (error.meaning, "clickhouse_user and clickhouse_password" in error.remedy) == (Meaning.STOP, True)


def test_a_read_only_user_stops(old: Place) -> None:
    error = refused_insert(old, "reader")
    assert (error.code, error.meaning) == (164, Meaning.STOP)
    assert "may insert" in error.remedy


def test_a_user_that_may_not_use_the_database_stops(old: Place) -> None:
    error = refused_insert(old, "stranger")
    assert (error.code, error.meaning) == (291, Meaning.STOP)
    assert "Grant this user the missing right" in error.remedy


def test_a_spent_quota_is_tried_again(old: Place) -> None:
    error = refused_insert(old, "spent")
    assert (error.code, error.meaning) == (201, Meaning.RETRY)


def test_a_memory_limit_is_tried_again(old: Place) -> None:
    error = refused_insert(old, "small", rows=100_000)
    assert (error.code, error.meaning) == (241, Meaning.RETRY)
    assert "memory" in error.remedy


def test_a_missing_column_stops(old: Place) -> None:
    error = refused_insert(old, "default", before=f"ALTER TABLE {old.database}.trades DROP COLUMN symbol")
    assert (error.code, error.meaning) in ((16, Meaning.STOP), (8, Meaning.STOP))
    assert "cdc schema diff" in error.remedy


def test_a_missing_database_stops(old: Place) -> None:
    with old.target(auto_create=True) as target:
        table = target.open(PLAN)
        old.query(f"DROP DATABASE {old.database}")
        with pytest.raises(TargetError) as caught:
            table.send(table.encode(trades(1, 1)))
        old.query(f"CREATE DATABASE {old.database}")
    assert (caught.value.code, caught.value.meaning) == (81, Meaning.STOP)


def test_rows_that_a_view_refuses_are_poison_and_the_others_are_not(old: Place) -> None:  # [R2]
    with old.target(auto_create=True) as target:
        table = target.open(PLAN)
        old.query(
            f"CREATE MATERIALIZED VIEW {old.database}.checked ENGINE = Null AS "
            f"SELECT throwIf(seq = 7) AS bad FROM {old.database}.trades"
        )
        with pytest.raises(TargetError) as caught:
            table.send(table.encode(trades(1, 10)))
        table.send(table.encode(trades(8, 10)))
    assert (caught.value.code, caught.value.meaning) == (395, Meaning.POISON)


@pytest.mark.parametrize("any_place", MODERN, indirect=True)
def test_too_many_partitions_in_a_block_ask_for_smaller_pieces(any_place: Place) -> None:
    with any_place.target(auto_create=True, partition_by="seq") as target:
        table = target.open(PLAN)
        with pytest.raises(TargetError) as caught:
            table.send(table.encode(trades(1, 101)))
        table.send(table.encode(trades(1, 50)))
    assert (caught.value.code, caught.value.meaning) == (252, Meaning.POISON)
    assert any_place.rows("trades") == 50


@pytest.mark.parametrize("any_place", MODERN, indirect=True)
def test_a_constraint_that_a_row_violates_is_poison(any_place: Place) -> None:
    with any_place.target(auto_create=True) as target:
        table = target.open(PLAN)
        any_place.query(f"ALTER TABLE {any_place.database}.trades ADD CONSTRAINT small CHECK seq < 7")
        with pytest.raises(TargetError) as caught:
            table.send(table.encode(trades(1, 10)))
        table.send(table.encode(trades(1, 6)))
    assert (caught.value.code, caught.value.meaning) == (469, Meaning.POISON)
    assert any_place.rows("trades") == 6


@pytest.mark.parametrize("code", [252, 242, 241, 999])
def test_what_passes_by_itself_is_tried_again(modern_server: ModernServer, code: int) -> None:
    for scheme in SCHEMES:
        with place(url(modern_server, scheme), modern_server.query) as made:
            with made.target(auto_create=True) as target:
                table = target.open(PLAN)
                modern_server.fault(Fault("refuse", code=code, message="for a while"))
                with pytest.raises(TargetError, match="for a while") as caught:
                    table.send(table.encode(trades(1, 10)))
                table.send(table.encode(trades(1, 10)))
            assert (caught.value.code, caught.value.meaning) == (code, Meaning.RETRY)


def test_an_insert_that_was_applied_but_not_acknowledged_is_applied_once(modern_server: ModernServer) -> None:
    for scheme in SCHEMES:
        with place(url(modern_server, scheme), modern_server.query) as made:
            with made.target(auto_create=True) as target:
                table = target.open(PLAN)
                encoded = table.encode(trades(1, 10))
                modern_server.fault(Fault("drop_after"))
                with pytest.raises(TargetError, match=r"closed the connection|Remote end closed") as caught:
                    table.send(encoded)
                applied = made.rows("trades")
                table.send(encoded)
            assert caught.value.meaning is Meaning.RETRY
            assert (applied, made.rows("trades")) == (10, 10)


def test_the_next_endpoint_is_used_while_the_first_is_down_and_the_first_when_it_is_back(
    clickhouse_server: ClickHouseServer, modern_server: ModernServer
) -> None:  # [R9]
    clock = FakeClock()
    with place(url(clickhouse_server, "clickhouse"), clickhouse_server.query) as first:
        modern_server.query(f"CREATE DATABASE {first.database}")
        endpoints = [first.endpoint, parse_endpoint(url(modern_server, "http"))]
        with ClickHouseTarget(endpoints, first.options(), clock) as target:
            oldest = target.server_version
            clickhouse_server.kill()
            newest = target.server_version
            clickhouse_server.start()
            still = target.server_version
            clock.advance(60)
            back = target.server_version
        modern_server.query(f"DROP DATABASE {first.database}")
    assert oldest == still.__class__(18, 16, 1) == back
    assert newest == still != oldest


def test_an_insert_goes_to_the_next_endpoint_on_its_next_attempt(
    clickhouse_server: ClickHouseServer, modern_server: ModernServer
) -> None:  # [R9]
    with place(url(modern_server, "clickhouse"), modern_server.query) as second:
        with place(url(clickhouse_server, "clickhouse"), clickhouse_server.query) as first:
            clickhouse_server.query(f"CREATE DATABASE {second.database}")
            endpoints = [first.endpoint, second.endpoint]
            with ClickHouseTarget(endpoints, second.options(auto_create=True), SystemClock()) as target:
                table = target.open(PLAN)
                with second.target(auto_create=True) as other:
                    other.open(PLAN)
                encoded = table.encode(trades(1, 10))
                clickhouse_server.kill()
                with pytest.raises(TargetError):
                    table.send(encoded)
                table.send(encoded)
            clickhouse_server.start()
            clickhouse_server.query(f"DROP DATABASE {second.database}")
        assert second.rows("trades") == 10


def test_a_route_rests_what_failed_and_comes_back_to_it() -> None:
    clock = FakeClock()
    first, second = (parse_endpoint(f"http://host{n}") for n in (1, 2))
    route = Route([first, second], clock)
    route.failed(first)
    after_first = route.endpoint()
    clock.advance(1)
    route.failed(second)
    after_both = route.endpoint()
    clock.advance(60)
    assert (after_first, after_both, route.endpoint()) == (second, first, first)


class Sending(threading.Thread):
    """A send on a thread of its own, with the error it ended with."""

    def __init__(self, table: ClickHouseTable, encoded: Encoded) -> None:
        super().__init__()
        self._table = table
        self.encoded = encoded
        self.error: TargetError | None = None
        self._started_at: float | None = None

    @property
    def begun(self) -> bool:
        """Whether it has waited so long that the insert is under way."""
        return self._started_at is not None and time.monotonic() - self._started_at > 0.2

    def run(self) -> None:
        self._started_at = time.monotonic()
        try:
            self._table.send(self.encoded)
        except TargetError as error:
            self.error = error


def refused_insert(place: Place, user: str, rows: int = 10, before: str = "") -> TargetError:
    """The error of an insert as `user`, or of getting that far."""
    with place.target(auto_create=True) as target:
        definition = target.open(PLAN)
        encoded = definition.encode(trades(1, rows))
    if before:
        place.query(before)
    endpoint = parse_endpoint(str(place.endpoint).replace("://", f"://{user}@"))
    with open_target([endpoint], place.options()) as target:
        table = ClickHouseTable(definition._definition, definition._codecs, target._connection())
        return first_error(table, encoded)


def first_error(table: ClickHouseTable, encoded: Encoded) -> TargetError:
    """The error of one of three inserts: a quota allows one."""
    for _ in range(3):
        try:
            table.send(encoded)
        except TargetError as error:
            return error
    raise AssertionError("nothing was refused")
