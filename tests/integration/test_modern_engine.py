"""Do real clients get from the modern server what they get from ClickHouse itself? [issue 2 part 10]"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import http.client
import ipaddress
import json
import socket
import subprocess
import sys
import threading
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlencode

import pyarrow as pa
import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import NetworkError, ServerException

from tests.support.modern.blocks import Block, read_format
from tests.support.modern.faults import Fault, read_only, too_many_parts
from tests.support.modern.fixture import READER, WRITER, FreshDatabase, ModernServer
from tests.support.modern.native_server import REVISION
from tests.support.modern.wire import LZ4, frame, stream_of, unframe
from tests.support.waiting import wait_until

Compression = bool | str

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


@contextlib.contextmanager
def _client(
    fresh: FreshDatabase, /, *, compression: Compression = False, **options: object
) -> Iterator[Client]:
    client = Client(
        "127.0.0.1",
        port=fresh.server.native_port,
        compression=compression,
        **{"database": fresh.name, "send_receive_timeout": 30, **options},
    )
    try:
        yield client
    finally:
        client.disconnect()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        return self.headers.get("X-ClickHouse-Exception-Code")


def _ask(
    fresh: FreshDatabase,
    body: bytes | list[bytes],
    headers: Mapping[str, str] | None = None,
    **parameters: object,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", fresh.server.http_port, timeout=30)
    with contextlib.closing(connection):
        url = "/?" + urlencode({"database": fresh.name, **parameters})
        connection.request("POST", url, iter(body) if isinstance(body, list) else body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())


class TestNative:
    @pytest.mark.parametrize("compression", [False, "lz4", "zstd"])
    def test_every_type_comes_back_as_it_went_in(
        self, modern_database: FreshDatabase, compression: Compression
    ) -> None:
        names = [f"c{number}" for number in range(len(TYPES))]
        declared = ", ".join(f"{name} {type_}" for name, (type_, _) in zip(names, TYPES, strict=True))
        columns = [values for _, values in TYPES]
        with _client(modern_database, compression=compression) as client:
            client.execute(f"CREATE TABLE t ({declared}) ENGINE = Memory")
            assert client.execute("INSERT INTO t VALUES", columns, columnar=True) == 2
            rows, types = client.execute("SELECT * FROM t", columnar=True, with_column_types=True)
        assert [list(column) for column in rows] == columns
        assert types == [(name, type_) for name, (type_, _) in zip(names, TYPES, strict=True)]

    def test_the_revision_spoken_is_the_smaller_of_both(self, modern_database: FreshDatabase) -> None:
        for client_revision in (REVISION, 54453, 54429):
            with _client(modern_database, client_revision=client_revision) as client:
                client.execute("CREATE TABLE IF NOT EXISTS t (a Int8, s String) ENGINE = Memory")
                client.execute("INSERT INTO t VALUES", [(1, "x")])
                assert client.execute("SELECT * FROM t LIMIT 1") == [(1, "x")]
                assert client.connection.server_info.used_revision == client_revision
                assert client.connection.server_info.version_tuple() >= (26, 9, 0)

    def test_a_client_older_than_string_settings_is_told_so(self, modern_database: FreshDatabase) -> None:
        old = _client(modern_database, client_revision=54406)
        with old as client, pytest.raises(ServerException, match="too old") as raised:
            client.execute("SELECT 1")
        assert raised.value.code == 48

    def test_an_exception_carries_the_engines_code_and_the_connection_goes_on(
        self, modern_database: FreshDatabase
    ) -> None:
        with _client(modern_database) as client:
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
        with _client(modern_database) as client:
            client.execute("CREATE TABLE t (a Int8) ENGINE = Memory")
            with pytest.raises(ServerException) as raised:
                client.execute(sql, [(1,)])
            assert raised.value.code == code

    def test_a_result_without_rows_still_names_its_columns(self, modern_database: FreshDatabase) -> None:
        with _client(modern_database) as client:
            client.execute("CREATE TABLE t (a Int8, `a b` Nullable(String)) ENGINE = Memory")
            for sql in ("SELECT * FROM t", "SELECT * FROM t FORMAT JSON;", "WITH 1 AS x SELECT * FROM t"):
                assert client.execute(sql, with_column_types=True) == (
                    [],
                    [("a", "Int8"), ("a b", "Nullable(String)")],
                )

    def test_the_sample_block_names_the_columns_an_insert_takes(self, modern_database: FreshDatabase) -> None:
        with _client(modern_database) as client:
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
        with _client(modern_database) as client:
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
        with _client(modern_database, compression=compression) as client:
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
        with _client(modern_database) as client:
            client.execute("SET max_block_size = 1111")
            assert client.execute(ask, settings={"max_block_size": 2222, "max_threads": 3}) == [(2222, 3)]
            assert client.execute(ask)[0][0] == 1111
            assert client.execute("SELECT 1", settings={"no_such_setting": 1}) == [(1,)]
        with _client(modern_database, settings_is_important=True) as client:
            with pytest.raises(ServerException) as raised:
                client.execute("SELECT 1", settings={"no_such_setting": 1})
            assert raised.value.code == 115

    def test_parameters_reach_the_engine(self, modern_database: FreshDatabase) -> None:
        text = "it's\ta \\ tab\n"
        with _client(modern_database, settings={"server_side_params": True}) as client:
            asked = client.execute("SELECT {text:String}, {n:UInt8}", {"text": text, "n": 7})
        assert asked == [(text, 7)]

    def test_a_deduplication_token_makes_a_repeated_insert_nothing(
        self, modern_database: FreshDatabase
    ) -> None:
        with _client(modern_database) as client:
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
        with _client(modern_database) as client:
            client.execute("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")

            def rows() -> Iterator[tuple[int]]:
                yield from ((1,) for _ in range(100))
                assert client.connection.socket is not None
                client.connection.socket.shutdown(socket.SHUT_RDWR)

            with pytest.raises((OSError, EOFError)):
                client.execute("INSERT INTO t VALUES", rows(), settings={"insert_block_size": 50})
        with _client(modern_database) as client:
            assert client.execute("SELECT count() FROM t") == [(0,)]
            client.execute("DROP TABLE t SYNC")

    def test_a_query_can_be_cancelled(self, modern_database: FreshDatabase) -> None:
        with _client(modern_database) as client:
            progress = client.execute_iter("SELECT number FROM numbers(1000000000)", chunk_size=1000)
            assert len(next(progress)) == 1000
            client.cancel()
            assert client.execute("SELECT 1") == [(1,)]

    def test_a_ping_is_answered(self, modern_database: FreshDatabase) -> None:
        with _client(modern_database) as client:
            client.execute("SELECT 1")
            assert client.connection.ping() is True

    def test_a_database_that_does_not_exist_refuses_the_connection(
        self, modern_database: FreshDatabase
    ) -> None:
        with _client(modern_database, database="no_such_database") as client:
            with pytest.raises(ServerException) as raised:
                client.execute("SELECT 1")
            assert raised.value.code == 81

    def test_many_clients_are_served_at_once(self, modern_database: FreshDatabase) -> None:
        clients, inserts = 8, 5
        with _client(modern_database) as client:
            client.execute("CREATE TABLE t (a Int32, b Int32) ENGINE = MergeTree ORDER BY (a, b)")
        together = threading.Barrier(clients)

        def work(number: int) -> None:
            with _client(modern_database, compression="lz4") as client:
                client.execute(f"SET max_block_size = {1000 + number}")
                together.wait(30)
                for insert in range(inserts):
                    client.execute("INSERT INTO t VALUES", [(number, insert)])
                    assert client.execute("SELECT getSetting('max_block_size')") == [(1000 + number,)]

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(work, range(clients)))
        with _client(modern_database) as client:
            assert client.execute("SELECT count(), uniqExact(a, b) FROM t") == [(clients * inserts,) * 2]


class TestHttp:
    def test_a_ping_is_answered(self, modern_database: FreshDatabase) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", modern_database.server.http_port, timeout=30)
        with contextlib.closing(connection):
            for _ in range(2):  # the second on the same connection
                connection.request("GET", "/ping")
                response = connection.getresponse()
                assert (response.status, response.read()) == (200, b"Ok.\n")

    def test_the_query_may_be_in_the_url_or_the_body_or_both(self, modern_database: FreshDatabase) -> None:
        assert _ask(modern_database, b"SELECT 1, 'x'").body == b"1\tx\n"
        assert _ask(modern_database, b"", query="SELECT 1 FORMAT CSV").body == b"1\n"
        assert _ask(modern_database, b" + 1", query="SELECT 1").body == b"2\n"
        assert _ask(modern_database, b"SELECT 1 AS a", default_format="JSONEachRow").body == b'{"a":1}\n'

    @pytest.mark.parametrize("encoding", ["", "gzip", "zstd", "lz4"])
    def test_a_native_body_is_inserted_and_read_back(
        self, modern_database: FreshDatabase, encoding: str
    ) -> None:
        _ask(modern_database, b"CREATE TABLE t (a UInt32, s String) ENGINE = ReplacingMergeTree ORDER BY a")
        block = Block(2, (("a", "UInt32", bytes([1, 0, 0, 0, 2, 0, 0, 0])), ("s", "String", b"\x01x\x02yz")))
        body, headers = block.to_format(), {}
        if encoding:
            packed = pa.BufferOutputStream()
            with pa.output_stream(packed, compression=encoding) as plain:
                plain.write(body)
            body, headers = packed.getvalue().to_pybytes(), {"Content-Encoding": encoding}
        insert = _ask(modern_database, body, headers, query="INSERT INTO t (a, s) FORMAT Native")
        assert (insert.status, insert.body) == (200, b"")
        accept = {"Accept-Encoding": encoding}
        read = _ask(modern_database, b"SELECT * FROM t FORMAT Native", accept, enable_http_compression=1)
        assert read.headers.get("Content-Encoding", "") == encoding
        output = read.body
        if encoding:
            with pa.input_stream(pa.BufferReader(output), compression=encoding) as plain:
                output = plain.read()
        assert read_format(stream_of(output)) == block

    def test_clickhouses_own_compression_works_both_ways(self, modern_database: FreshDatabase) -> None:
        answer = _ask(
            modern_database, frame(b"SELECT 'x", LZ4) + frame(b"yz'", LZ4), decompress=1, compress=1
        )
        assert unframe(stream_of(answer.body)) == b"xyz\n"

    def test_a_chunked_body_holds_query_and_data(self, modern_database: FreshDatabase) -> None:
        _ask(modern_database, b"CREATE TABLE t (a UInt32) ENGINE = Memory")
        pieces = [b"INSERT INTO t FORM", b"AT CSV\n1\n", b"2\n"]
        assert _ask(modern_database, pieces).status == 200
        assert _ask(modern_database, b"INSERT INTO t VALUES (3), (4)").status == 200
        assert _ask(modern_database, b"(5)", query="INSERT INTO t VALUES").status == 200
        assert _ask(modern_database, b"SELECT groupArray(a) FROM (SELECT a FROM t ORDER BY a)").body == (
            b"[1,2,3,4,5]\n"
        )

    def test_a_body_that_breaks_off_inserts_nothing(self, modern_database: FreshDatabase) -> None:
        _ask(modern_database, b"CREATE TABLE t (a UInt32) ENGINE = Memory")
        body = b"POST /?query=INSERT+INTO+" + modern_database.name.encode() + b".t+FORMAT+CSV HTTP/1.1\r\n"
        with socket.create_connection(("127.0.0.1", modern_database.server.http_port)) as connection:
            connection.sendall(body + b"Host: x\r\nContent-Length: 100\r\n\r\n1\n2\n")
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""
        assert _ask(modern_database, b"SELECT count() FROM t").body == b"0\n"

    @pytest.mark.parametrize(
        ("sql", "status", "code"),
        [(b"SELECT * FROM no_such", 404, "60"), (b"SELEKT 1", 400, "62"), (b"SELECT throwIf(1)", 500, "395")],
    )
    def test_an_error_has_its_status_code_and_text(
        self, modern_database: FreshDatabase, sql: bytes, status: int, code: str
    ) -> None:
        answer = _ask(modern_database, sql)
        assert (answer.status, answer.code) == (status, code)
        assert answer.body.startswith(f"Code: {code}. DB::Exception: ".encode())

    def test_settings_and_parameters_come_from_the_url(self, modern_database: FreshDatabase) -> None:
        sql = b"SELECT getSetting('max_threads'), {p:String}, currentDatabase()"
        answer = _ask(modern_database, sql, max_threads=3, param_p="a'b")
        assert answer.body == f"3\ta\\'b\t{modern_database.name}\n".encode()
        assert _ask(modern_database, sql, no_such_setting=3).code == "115"

    def test_a_get_request_may_only_read(self, modern_database: FreshDatabase) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", modern_database.server.http_port, timeout=30)
        with contextlib.closing(connection):
            connection.request(
                "GET", "/?" + urlencode({"query": "CREATE TABLE default.t (a Int8) ENGINE = Memory"})
            )
            response = connection.getresponse()
            response.read()
            assert response.getheader("X-ClickHouse-Exception-Code") == "164"

    def test_a_gzip_body_that_is_none_is_refused(self, modern_database: FreshDatabase) -> None:
        broken = gzip.compress(b"SELECT 1")[:-9]
        assert _ask(modern_database, broken, {"Content-Encoding": "gzip"}).code == "271"


class TestUsers:
    def test_a_wrong_password_is_refused_over_both_protocols(self, modern_database: FreshDatabase) -> None:
        with _client(modern_database, user=WRITER.name, password="wrong") as client:
            with pytest.raises(ServerException) as raised:
                client.execute("SELECT 1")
            assert raised.value.code == 516
        answer = _ask(modern_database, b"SELECT 1", user="nobody")
        assert (answer.status, answer.code) == (403, "516")

    def test_a_user_who_may_only_insert_can_insert_and_no_more(self, modern_database: FreshDatabase) -> None:
        with _client(modern_database) as client:
            client.execute("CREATE TABLE t (a Int8, s String) ENGINE = MergeTree ORDER BY a")
        with _client(modern_database, user=WRITER.name, password=WRITER.password) as client:
            assert client.execute("INSERT INTO t (s, a) VALUES", [("x", 1)]) == 1
            for sql in ("SELECT * FROM t", "DROP TABLE t", "CREATE TABLE u (a Int8) ENGINE = Memory"):
                with pytest.raises(ServerException, match="writer: Not enough privileges") as raised:
                    client.execute(sql)
                assert raised.value.code == 497
        with _client(modern_database, user=READER.name, password=READER.password) as client:
            assert client.execute("SELECT * FROM t") == [(1, "x")]
            with pytest.raises(ServerException, match="reader: Not enough privileges"):
                client.execute("INSERT INTO t VALUES", [(2, "y")])

    @pytest.mark.parametrize(
        "headers",
        [
            {"X-ClickHouse-User": WRITER.name, "X-ClickHouse-Key": WRITER.password},
            {"Authorization": "Basic " + b64encode(f"{WRITER.name}:{WRITER.password}".encode()).decode()},
        ],
    )
    def test_http_credentials_come_from_either_header(
        self, modern_database: FreshDatabase, headers: Mapping[str, str]
    ) -> None:
        _ask(modern_database, b"CREATE TABLE t (a Int8) ENGINE = Memory")
        assert _ask(modern_database, b"1\n", headers, query="INSERT INTO t FORMAT CSV").status == 200
        answer = _ask(modern_database, b"SELECT * FROM t", headers)
        assert (answer.status, answer.code) == (403, "497")


@pytest.fixture
def table(modern_database: FreshDatabase) -> FreshDatabase:
    """A database with an empty table `t (a Int8)`."""
    _ask(modern_database, b"CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
    return modern_database


Insert = Callable[[FreshDatabase, int], int | None]
"""Inserts one row; gives the exception's code, 0 for a lost connection, None when it worked."""


def _insert_natively(database: FreshDatabase, row: int) -> int | None:
    with _client(database) as client:
        try:
            client.execute("INSERT INTO t VALUES", [(row,)])
        except ServerException as error:
            return int(error.code)
        except (EOFError, ConnectionError):
            return 0
    return None


def _insert_over_http(database: FreshDatabase, row: int) -> int | None:
    try:
        answer = _ask(database, b"%d\n" % row, query="INSERT INTO t FORMAT CSV")
    except (http.client.RemoteDisconnected, ConnectionError):
        return 0
    return int(answer.code) if answer.code else None


def _rows(database: FreshDatabase) -> list[int]:
    return [int(row) for row in _ask(database, b"SELECT a FROM t ORDER BY a").body.split()]


@pytest.mark.parametrize("insert", [_insert_natively, _insert_over_http])
class TestFaults:
    def test_inserts_are_refused_as_often_as_asked(self, table: FreshDatabase, insert: Insert) -> None:
        table.server.fault(Fault("refuse", times=2, code=241))
        assert [insert(table, row) for row in (1, 2, 3)] == [241, 241, None]
        assert _rows(table) == [3]

    def test_a_standing_fault_lasts_until_it_is_cleared(self, table: FreshDatabase, insert: Insert) -> None:
        table.server.fault(read_only())
        assert [insert(table, row) for row in (1, 2, 3)] == [242] * 3
        table.server.clear_faults()
        assert insert(table, 4) is None
        assert _rows(table) == [4]

    def test_a_fault_for_a_time_ends_by_itself(self, table: FreshDatabase, insert: Insert) -> None:
        table.server.fault(too_many_parts(for_seconds=0.3))
        wait_until(lambda: insert(table, 1) is None, "the fault is over")
        assert _rows(table) == [1]

    def test_a_fault_can_be_for_one_table(self, table: FreshDatabase, insert: Insert) -> None:
        table.server.fault(Fault("refuse", code=1, table="other"))
        assert insert(table, 1) is None
        assert table.server.faults_waiting() == 1

    def test_a_connection_dropped_before_the_insert_leaves_nothing(
        self, table: FreshDatabase, insert: Insert
    ) -> None:
        table.server.fault(Fault("drop_before"))
        assert [insert(table, row) for row in (1, 2)] == [0, None]
        assert _rows(table) == [2]

    def test_a_connection_dropped_after_the_insert_leaves_its_rows(
        self, table: FreshDatabase, insert: Insert
    ) -> None:
        table.server.fault(Fault("drop_after"))
        assert [insert(table, row) for row in (1, 2)] == [0, None]
        assert _rows(table) == [1, 2]

    def test_a_delayed_insert_is_not_there_before_its_time(
        self, table: FreshDatabase, insert: Insert
    ) -> None:
        table.server.fault(Fault("delay", seconds=0.5))
        with ThreadPoolExecutor(1) as pool:
            inserting = pool.submit(insert, table, 1)
            wait_until(lambda: table.server.faults_waiting() == 0, "the insert has met its fault")
            assert _rows(table) == []
            assert inserting.result(30) is None
        assert _rows(table) == [1]


def test_an_unknown_fault_is_refused(modern_server: ModernServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", modern_server.http_port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", "/_fault", b'{"kind": "meteorite"}')
        assert connection.getresponse().status == 400


class TestProcess:
    def test_what_was_acknowledged_survives_a_kill(self, table: FreshDatabase) -> None:
        ports = table.server.native_port, table.server.http_port
        with _client(table) as client:
            client.execute("INSERT INTO t VALUES", [(1,)])
            table.server.kill()
            with pytest.raises((OSError, EOFError, NetworkError)):
                client.execute("INSERT INTO t VALUES", [(2,)])
        table.server.restart()
        assert (table.server.native_port, table.server.http_port) == ports
        assert _rows(table) == [1]

    def test_a_stop_finishes_the_insert_it_is_answering(self, table: FreshDatabase) -> None:
        table.server.fault(Fault("delay", seconds=0.5))
        with ThreadPoolExecutor(1) as pool:
            inserting = pool.submit(_insert_natively, table, 1)
            wait_until(lambda: table.server.faults_waiting() == 0, "the insert has met its fault")
            table.server.stop()
            assert inserting.result(30) is None
        table.server.restart()
        assert _rows(table) == [1]

    def test_it_ends_with_the_process_that_started_it(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "tests.support.modern", "--path", str(tmp_path)]
        root = Path(__file__).parents[2]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert json.loads(process.stdout.readline())["version"].startswith("26.")
            process.stdin.close()
            assert process.wait(30) == 0
