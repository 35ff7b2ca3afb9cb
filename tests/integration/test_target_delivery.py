"""Batches into every kind of target, and out again: the same rows, once, whatever was retried."""

from __future__ import annotations

import threading

import pytest

from cdc.errors import Meaning, TargetError
from cdc.rate import Rate
from cdc.target import Compression
from tests.support.clock import FakeClock
from tests.support.places import Place
from tests.support.trades import PLAN, trade_id, trades


def test_what_was_sent_is_read_back_in_watermark_order(any_place: Place) -> None:
    with any_place.target(auto_create=True) as target:
        table = target.open(PLAN)
        batch = trades(1, 1000)
        encoded = table.encode(batch)
        table.send(encoded)
        read = target.rows(PLAN, None, None).read_all()
    assert (encoded.rows, encoded.rejected) == (1000, ())
    assert read.column("seq").to_pylist() == list(range(1, 1001))
    assert read.column("price").to_pylist() == batch.rows.column("price").to_pylist()
    assert read.column("symbol").to_pylist() == batch.rows.column("symbol").to_pylist()
    assert read.column("id").to_pylist() == [trade_id(n) for n in range(1, 1001)]


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_a_block_of_several_frames_arrives_whole_under_every_compression(
    any_place: Place, compression: Compression
) -> None:
    count = 100_000  # about 4 MB: blocks and frames are cut several times on the way in and out
    with any_place.target(auto_create=True, compression=compression) as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(1, count)))
        read = target.rows(PLAN, None, None).read_all()
    assert read.column("seq").to_pylist() == list(range(1, count + 1))
    assert any_place.query(f"SELECT sum(seq), uniqExact(id) FROM {any_place.database}.trades") == (
        f"{count * (count + 1) // 2}\t{count}"
    )


class Told(Rate):
    """Adds up what it is told."""

    def __init__(self) -> None:
        super().__init__(0.0, FakeClock())
        self.total = 0.0

    def take(self, amount: float) -> float:
        self.total += amount
        return super().take(amount)


def test_bytes_are_counted_as_they_are_sent_and_so_compressed(any_place: Place) -> None:  # [S5]
    counted: dict[Compression, float] = {}
    methods: tuple[Compression, ...] = ("none", "lz4")
    for compression in methods:
        sent = Told()
        with any_place.target(auto_create=True, compression=compression, sent=sent) as target:
            table = target.open(PLAN)
            encoded = table.encode(trades(1, 20_000))
            before = sent.total
            table.send(encoded)
            counted[compression] = sent.total - before
    if any_place.endpoint.kind == "embedded":
        assert counted == {"none": 0, "lz4": 0}
    else:
        assert encoded.nbytes <= counted["none"] < 1.01 * encoded.nbytes
        assert 0.1 * encoded.nbytes < counted["lz4"] < 0.8 * encoded.nbytes


def test_a_range_holds_its_lower_bound_and_not_its_upper(any_place: Place) -> None:
    with any_place.target(auto_create=True) as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 50)))
        read = target.rows(PLAN, "10", "20").read_all()
    assert read.column("seq").to_pylist() == list(range(10, 20))


def test_a_block_sent_twice_is_one_row_for_each_key(any_place: Place) -> None:  # [F7, R8]
    with any_place.target(auto_create=True) as target:
        table = target.open(PLAN)
        encoded = table.encode(trades(1, 100))
        table.send(encoded)
        table.send(encoded)
        present = target.rows(PLAN, None, None).read_all().num_rows
        deduplicates = target.server_version.at_least(22, 3)
    assert present == 100
    assert any_place.rows("trades") == (100 if deduplicates else 200)


def test_a_higher_version_wins_in_whatever_order_they_arrive(any_place: Place) -> None:
    with any_place.target(auto_create=True) as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 10, version=5)))
        table.send(table.encode(trades(1, 5, version=7, deleted=True)))
        table.send(table.encode(trades(1, 10, version=2)))
        read = target.rows(PLAN, None, None).read_all()
    assert read.column("seq").to_pylist() == list(range(6, 11))
    assert any_place.query(f"SELECT count() FROM {any_place.database}.trades_current") == "5"


def test_one_thread_encodes_while_another_sends(any_place: Place) -> None:
    with any_place.target(auto_create=True) as target:
        table = target.open(PLAN)
        ready = [table.encode(trades(1, 2000))]
        failures: list[TargetError] = []

        def send() -> None:
            try:
                while ready:
                    table.send(ready.pop(0))
            except TargetError as error:
                failures.append(error)

        for start in range(2001, 20_001, 2000):
            sender = threading.Thread(target=send)
            sender.start()
            encoded = table.encode(trades(start, 2000))
            sender.join()
            ready.append(encoded)
        send()
    assert failures == []
    assert any_place.rows("trades") == 20_000


def test_two_tables_are_sent_side_by_side(any_place: Place) -> None:
    with any_place.target(auto_create=True) as target:
        tables = [target.open(PLAN), target.open(PLAN)]
        threads = []
        for part, table in enumerate(tables):
            encoded = table.encode(trades(1 + part * 5000, 5000))
            threads.append(threading.Thread(target=table.send, args=(encoded,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert any_place.rows("trades") == 10_000


def test_after_a_refused_insert_the_next_one_is_sent_on_a_clean_connection(any_place: Place) -> None:
    with any_place.target(auto_create=True) as target:
        table = target.open(PLAN)
        any_place.query(f"DROP TABLE {any_place.database}.trades")
        with pytest.raises(TargetError) as refused:
            table.send(table.encode(trades(1, 10)))
        for sql in target.ddl(PLAN):
            any_place.query(sql)
        table.send(table.encode(trades(1, 10)))
    assert (refused.value.meaning, refused.value.code) == (Meaning.STOP, 60)
    assert "cdc schema apply" in refused.value.remedy
    assert any_place.rows("trades") == 10


def test_a_closed_table_sends_nothing(any_place: Place) -> None:
    with any_place.target(auto_create=True) as target:
        table = target.open(PLAN)
        encoded = table.encode(trades(1, 10))
        table.close()
        with pytest.raises(TargetError, match="was closed"):
            table.send(encoded)
    assert any_place.rows("trades") == 0


def test_a_query_is_answered_with_arrow_types(any_place: Place) -> None:  # [L2]
    with any_place.target(auto_create=True) as target:
        table = target.open(PLAN)
        table.send(table.encode(trades(1, 30)))
        answer = target.query(
            "SELECT count() AS rows, max(price) AS price, groupArray(3)(toUInt8(seq % 2)) AS odd, "
            "min(symbol) AS symbol FROM trades WHERE seq <= 3; "
        ).read_all()
    assert answer.schema.names == ["rows", "price", "odd", "symbol"]
    row = answer.to_pylist()[0]
    assert (row["rows"], str(row["price"]), row["symbol"]) == (3, "0.003000", "SYM1")
    assert sorted(row["odd"]) == sorted("[0,1,1]")


def test_a_query_that_the_server_refuses_says_why(any_place: Place) -> None:
    with any_place.target() as target, pytest.raises(TargetError, match="no_such_table") as refused:
        target.query("SELECT * FROM no_such_table")
    assert refused.value.code == 60


def test_a_ping_is_answered_within_the_time_it_reports(any_place: Place) -> None:
    with any_place.target() as target:
        assert 0 < target.ping() < 20
