"""Do real clients get from the modern server what they get from ClickHouse itself? [issue 2 part 10]"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from clickhouse_driver.errors import ServerException

from tests.support.modern.clients import Compression, native_client
from tests.support.modern.fixture import FreshDatabase
from tests.support.modern.native_server import REVISION

UTC = datetime.UTC

# The driver's answers leave out the zone of the server and of the machine; this is hardly either.
TYPES: tuple[tuple[str, list[object]], ...] = (
    ("Bool", [True, False]),
    ("Int8", [-128, 127]),
    ("UInt64", [0, 2**64 - 1]),
    ("Int128", [-(2**127), 2**127 - 1]),
    ("UInt256", [0, 2**256 - 1]),
    ("Float64", [1.5, float("inf")]),
    ("Decimal(9, 2)", [Decimal("-1.25"), Decimal("9999999.99")]),
    ("Decimal(18, 6)", [Decimal("1.000001"), Decimal("-2.5")]),
    ("Decimal(38, 10)", [Decimal("1.0000000001"), Decimal("-12345678901234567890.5")]),
    ("Decimal(76, 3)", [Decimal("1.001"), Decimal("-7.000")]),
    ("String", ["", "é\0x" * 400]),
    ("FixedString(4)", ["abcd", "wxyz"]),
    ("Date", [datetime.date(1970, 1, 1), datetime.date(2149, 6, 6)]),
    ("Date32", [datetime.date(1900, 1, 1), datetime.date(2299, 12, 31)]),
    ("DateTime('America/St_Johns')", [datetime.datetime(2026, 1, 1, tzinfo=UTC)] * 2),
    ("DateTime64(6, 'America/St_Johns')", [datetime.datetime(2026, 1, 1, 1, 2, 3, 456789, tzinfo=UTC)] * 2),
    ("UUID", [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)]),
    ("IPv4", [ipaddress.IPv4Address("10.0.0.1"), ipaddress.IPv4Address("0.0.0.0")]),
    ("IPv6", [ipaddress.IPv6Address("::1"), ipaddress.IPv6Address("fe80::2")]),
    ("Enum8('a, b)' = 1, 'c' = 2)", ["a, b)", "c"]),
    ("LowCardinality(String)", ["x", "y"]),
    ("LowCardinality(Nullable(String))", [None, "y"]),
    ("Nullable(String)", [None, "text"]),
    ("Nullable(Decimal(38, 2))", [Decimal("1.00"), None]),
    ("Array(Nullable(String))", [[], ["a", None]]),
    ("Array(Array(LowCardinality(String)))", [[["a"], []], [["b", "a"]]]),
    ("Tuple(a Int8, b LowCardinality(String), c Array(UInt16))", [(1, "x", [1, 2]), (2, "y", [])]),
    ("Map(String, Array(Int32))", [{}, {"k": [1, 2], "l": []}]),
    ("Map(LowCardinality(String), Nullable(Float32))", [{"k": 1.5}, {"l": None}]),
)


class TestNative:
    @pytest.mark.parametrize("compression", [False, "lz4", "zstd"])
    def test_every_type_comes_back_as_it_went_in(
        self, modern_database: FreshDatabase, compression: Compression
    ) -> None:
        names = [f"c{number}" for number in range(len(TYPES))]
        declared = ", ".join(f"{name} {type_}" for name, (type_, _) in zip(names, TYPES, strict=True))
        columns = [values for _, values in TYPES]
        with native_client(modern_database, compression=compression) as client:
            client.execute(f"CREATE TABLE t ({declared}) ENGINE = Memory")
            assert client.execute("INSERT INTO t VALUES", columns, columnar=True) == 2
            rows, types = client.execute("SELECT * FROM t", columnar=True, with_column_types=True)
        assert [list(column) for column in rows] == columns
        assert types == [(name, type_) for name, (type_, _) in zip(names, TYPES, strict=True)]

    def test_the_revision_spoken_is_the_smaller_of_both(self, modern_database: FreshDatabase) -> None:
        for client_revision in (REVISION, 54453, 54429):
            with native_client(modern_database, client_revision=client_revision) as client:
                client.execute("CREATE TABLE IF NOT EXISTS t (a Int8, s String) ENGINE = Memory")
                client.execute("INSERT INTO t VALUES", [(1, "x")])
                assert client.execute("SELECT * FROM t LIMIT 1") == [(1, "x")]
                assert client.connection.server_info.used_revision == client_revision
                assert client.connection.server_info.version_tuple() >= (26, 9, 0)

    def test_a_client_older_than_string_settings_is_told_so(self, modern_database: FreshDatabase) -> None:
        old = native_client(modern_database, client_revision=54406)
        with old as client, pytest.raises(ServerException, match="too old") as raised:
            client.execute("SELECT 1")
        assert raised.value.code == 48

    def test_an_exception_carries_the_engines_code_and_the_connection_goes_on(
        self, modern_database: FreshDatabase
    ) -> None:
        with native_client(modern_database) as client:
            client.execute("CREATE TABLE t (a Int8) ENGINE = Memory")
            connected = client.connection.socket
            for sql, code in (
                ("SELECT * FROM no_such_table", 60),
                ("SELECT throwIf(number = 100000) FROM numbers(200000) SETTINGS max_block_size = 1000", 395),
                ("SELEKT 1", 62),
                ("SELECT 1; SELECT 2", 62),
                ("CREATE TABLE t (a Int8) ENGINE = Memory", 57),
            ):
                with pytest.raises(ServerException) as raised:
                    client.execute(sql)
                assert raised.value.code == code
            assert client.execute("SELECT 1") == [(1,)]
            assert connected is not None

    @pytest.mark.parametrize(
        ("sql", "code"), [("INSERT INTO no_such (a) VALUES", 60), ("INSERT INTO t (a, b) VALUES", 16)]
    )
    def test_an_insert_that_cannot_be_is_refused_before_its_data(
        self, modern_database: FreshDatabase, sql: str, code: int
    ) -> None:
        with native_client(modern_database) as client:
            client.execute("CREATE TABLE t (a Int8) ENGINE = Memory")
            with pytest.raises(ServerException) as raised:
                client.execute(sql, [(1,)])
            assert raised.value.code == code

    def test_a_result_without_rows_still_names_its_columns(self, modern_database: FreshDatabase) -> None:
        with native_client(modern_database) as client:
            client.execute("CREATE TABLE t (a Int8, `a b` Nullable(String)) ENGINE = Memory")
            for sql in ("SELECT * FROM t", "SELECT * FROM t FORMAT JSON;", "WITH 1 AS x SELECT * FROM t"):
                assert client.execute(sql, with_column_types=True) == (
                    [],
                    [("a", "Int8"), ("a b", "Nullable(String)")],
                )

    def test_the_sample_block_names_the_columns_an_insert_takes(self, modern_database: FreshDatabase) -> None:
        with native_client(modern_database) as client:
            client.execute(
                "CREATE TABLE t (a Int8, b Int8 MATERIALIZED 2, c Int8 ALIAS a, d Int8 DEFAULT 4, `e f` Int8)"
                " ENGINE = Memory"
            )
            client.execute("INSERT INTO t VALUES", [(1, 2, 3)])
            client.execute("INSERT INTO t (`e f`, a) FORMAT Native", [{"a": 5, "e f": 6}])
            client.execute("INSERT INTO t (* EXCEPT (d, `e f`)) VALUES", [(7,)])
            assert client.execute("SELECT a, b, d, `e f` FROM t ORDER BY a") == [
                (1, 2, 2, 3),
                (5, 2, 4, 6),
                (7, 2, 4, 0),
            ]

    def test_an_insert_with_its_data_in_the_text_or_from_a_select_needs_none(
        self, modern_database: FreshDatabase
    ) -> None:
        with native_client(modern_database) as client:
            client.execute("CREATE TABLE t (a Int8, s String) ENGINE = Memory")
            client.execute("INSERT INTO t VALUES (1, 'SELECT (')")
            client.execute("INSERT INTO t (a, s) SELECT 2, 'FORMAT Native'")
            client.execute("INSERT INTO t FORMAT CSV\n3,three\n")
            assert client.execute("SELECT * FROM t ORDER BY a") == [
                (1, "SELECT ("),
                (2, "FORMAT Native"),
                (3, "three"),
            ]

    @pytest.mark.parametrize("compression", [False, "lz4"])
    def test_a_million_rows_in_several_blocks_are_one_insert(
        self, modern_database: FreshDatabase, compression: Compression
    ) -> None:
        count = 1_000_000
        with native_client(modern_database, compression=compression) as client:
            client.execute("CREATE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
            columns = client.execute(f"SELECT number, toString(number) FROM numbers({count})", columnar=True)
            written = client.execute(
                "INSERT INTO t VALUES", columns, columnar=True, settings={"insert_block_size": 300_000}
            )
            assert written == count
            assert client.execute("SELECT count(), sum(a), sum(a = toUInt64(s)) FROM t") == [
                (count, count * (count - 1) // 2, count)
            ]
            assert client.execute("SELECT uniqExact(_part) FROM t") == [(1,)]

    def test_settings_hold_for_their_query_and_those_the_client_set_stay(
        self, modern_database: FreshDatabase
    ) -> None:
        ask = "SELECT getSetting('max_block_size'), getSetting('max_threads')"
        with native_client(modern_database) as client:
            client.execute("SET max_block_size = 1111")
            assert client.execute(ask, settings={"max_block_size": 2222, "max_threads": 3}) == [(2222, 3)]
            assert client.execute(ask)[0][0] == 1111
            assert client.execute("SELECT 1", settings={"no_such_setting": 1}) == [(1,)]
        with native_client(modern_database, settings_is_important=True) as client:
            with pytest.raises(ServerException) as raised:
                client.execute("SELECT 1", settings={"no_such_setting": 1})
            assert raised.value.code == 115

    def test_parameters_reach_the_engine(self, modern_database: FreshDatabase) -> None:
        text = "it's\ta \\ tab\n"
        with native_client(modern_database, settings={"server_side_params": True}) as client:
            asked = client.execute("SELECT {text:String}, {n:UInt8}", {"text": text, "n": 7})
        assert asked == [(text, 7)]

    def test_a_deduplication_token_makes_a_repeated_insert_nothing(
        self, modern_database: FreshDatabase
    ) -> None:
        with native_client(modern_database) as client:
            client.execute(
                "CREATE TABLE t (a Int8) ENGINE = ReplacingMergeTree ORDER BY a"
                " SETTINGS non_replicated_deduplication_window = 10"
            )
            for token, row in (("one", 1), ("one", 2), ("two", 3)):
                client.execute(
                    "INSERT INTO t VALUES", [(row,)], settings={"insert_deduplication_token": token}
                )
            assert client.execute("SELECT a FROM t ORDER BY a") == [(1,), (3,)]

    def test_a_client_that_leaves_during_an_insert_has_inserted_nothing(
        self, modern_database: FreshDatabase
    ) -> None:
        with native_client(modern_database) as client:
            client.execute("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")

            def rows() -> Iterator[tuple[int]]:
                yield from ((1,) for _ in range(100))
                assert client.connection.socket is not None
                client.connection.socket.shutdown(socket.SHUT_RDWR)

            with pytest.raises((OSError, EOFError)):
                client.execute("INSERT INTO t VALUES", rows(), settings={"insert_block_size": 50})
        with native_client(modern_database) as client:
            assert client.execute("SELECT count() FROM t") == [(0,)]
            client.execute("DROP TABLE t SYNC")

    def test_a_query_can_be_cancelled(self, modern_database: FreshDatabase) -> None:
        with native_client(modern_database) as client:
            progress = client.execute_iter("SELECT number FROM numbers(1000000000)", chunk_size=1000)
            assert len(next(progress)) == 1000
            client.cancel()
            assert client.execute("SELECT 1") == [(1,)]

    def test_a_ping_is_answered(self, modern_database: FreshDatabase) -> None:
        with native_client(modern_database) as client:
            client.execute("SELECT 1")
            assert client.connection.ping() is True

    def test_a_database_that_does_not_exist_refuses_the_connection(
        self, modern_database: FreshDatabase
    ) -> None:
        with native_client(modern_database, database="no_such_database") as client:
            with pytest.raises(ServerException) as raised:
                client.execute("SELECT 1")
            assert raised.value.code == 81

    def test_a_block_damaged_on_its_way_is_refused_and_nothing_of_it_inserted(
        self, modern_database: FreshDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with native_client(modern_database, compression="lz4") as client:
            client.execute("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
            block_out = client.connection.block_out
            checksum = block_out.get_compressed_hash
            seen: list[bytes] = []

            def damaged(data: bytes) -> int:
                seen.append(data)
                right = int(checksum(data))
                return right ^ 1 if len(seen) == 2 else right  # the first ends the external tables

            monkeypatch.setattr(block_out, "get_compressed_hash", damaged)
            with pytest.raises(ServerException) as raised:
                client.execute("INSERT INTO t VALUES", [(1,)])
            assert raised.value.code == 40
        with native_client(modern_database) as client:
            assert client.execute("SELECT count() FROM t") == [(0,)]

    def test_what_is_not_the_protocol_is_answered_and_ends_only_its_connection(
        self, modern_database: FreshDatabase
    ) -> None:
        address = ("127.0.0.1", modern_database.server.native_port)
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff\xff", b""):
            with socket.create_connection(address, timeout=30) as connection:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.makefile("rb").read()
                assert (answer[:1] == b"\x02") == data.startswith(b"GET")
        with native_client(modern_database) as client:
            assert client.execute("SELECT 1") == [(1,)]

    def test_many_clients_are_served_at_once(self, modern_database: FreshDatabase) -> None:
        clients, inserts = 8, 5
        with native_client(modern_database) as client:
            client.execute("CREATE TABLE t (a Int32, b Int32) ENGINE = MergeTree ORDER BY (a, b)")
        together = threading.Barrier(clients)

        def work(number: int) -> None:
            with native_client(modern_database, compression="lz4") as client:
                client.execute(f"SET max_block_size = {1000 + number}")
                together.wait(30)
                for insert in range(inserts):
                    client.execute("INSERT INTO t VALUES", [(number, insert)])
                    assert client.execute("SELECT getSetting('max_block_size')") == [(1000 + number,)]

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(work, range(clients)))
        with native_client(modern_database) as client:
            assert client.execute("SELECT count(), uniqExact(a, b) FROM t") == [(clients * inserts,) * 2]
