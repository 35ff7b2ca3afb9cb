"""Does the modern server answer over HTTP as ClickHouse's HTTP interface does? [issue 2 part 10]"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import socket
from urllib.parse import urlencode

import pyarrow as pa
import pytest

from tests.support.modern.blocks import Block, read_format
from tests.support.modern.clients import ask
from tests.support.modern.fixture import FreshDatabase
from tests.support.modern.wire import LZ4, frame, stream_of, unframe


class TestHttp:
    def test_a_ping_is_answered(self, modern_database: FreshDatabase) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", modern_database.server.http_port, timeout=30)
        with contextlib.closing(connection):
            for _ in range(2):  # the second on the same connection
                connection.request("GET", "/ping")
                response = connection.getresponse()
                assert (response.status, response.read()) == (200, b"Ok.\n")

    def test_the_query_may_be_in_the_url_or_the_body_or_both(self, modern_database: FreshDatabase) -> None:
        assert ask(modern_database, b"SELECT 1, 'x'").body == b"1\tx\n"
        assert ask(modern_database, b"", query="SELECT 1 FORMAT CSV").body == b"1\n"
        assert ask(modern_database, b" + 1", query="SELECT 1").body == b"2\n"
        assert ask(modern_database, b"SELECT 1 AS a", default_format="JSONEachRow").body == b'{"a":1}\n'

    @pytest.mark.parametrize("encoding", ["", "gzip", "zstd", "lz4"])
    def test_a_native_body_is_inserted_and_read_back(
        self, modern_database: FreshDatabase, encoding: str
    ) -> None:
        ask(modern_database, b"CREATE TABLE t (a UInt32, s String) ENGINE = ReplacingMergeTree ORDER BY a")
        block = Block(2, (("a", "UInt32", bytes([1, 0, 0, 0, 2, 0, 0, 0])), ("s", "String", b"\x01x\x02yz")))
        body, headers = block.to_format(), {}
        if encoding:
            packed = pa.BufferOutputStream()
            with pa.output_stream(packed, compression=encoding) as plain:
                plain.write(body)
            body, headers = packed.getvalue().to_pybytes(), {"Content-Encoding": encoding}
        insert = ask(modern_database, body, headers, query="INSERT INTO t (a, s) FORMAT Native")
        assert (insert.status, insert.body) == (200, b"")
        accept = {"Accept-Encoding": encoding}
        read = ask(modern_database, b"SELECT * FROM t FORMAT Native", accept, enable_http_compression=1)
        assert read.headers.get("Content-Encoding", "") == encoding
        output = read.body
        if encoding:
            with pa.input_stream(pa.BufferReader(output), compression=encoding) as plain:
                output = plain.read()
        assert read_format(stream_of(output)) == block

    def test_clickhouses_own_compression_works_both_ways(self, modern_database: FreshDatabase) -> None:
        answer = ask(modern_database, frame(b"SELECT 'x", LZ4) + frame(b"yz'", LZ4), decompress=1, compress=1)
        assert unframe(stream_of(answer.body)) == b"xyz\n"

    def test_a_chunked_body_holds_query_and_data(self, modern_database: FreshDatabase) -> None:
        ask(modern_database, b"CREATE TABLE t (a UInt32) ENGINE = Memory")
        pieces = [b"INSERT INTO t FORM", b"AT CSV\n1\n", b"2\n"]
        assert ask(modern_database, pieces).status == 200
        assert ask(modern_database, b"INSERT INTO t VALUES (3), (4)").status == 200
        assert ask(modern_database, b"(5)", query="INSERT INTO t VALUES").status == 200
        assert ask(modern_database, b"SELECT groupArray(a) FROM (SELECT a FROM t ORDER BY a)").body == (
            b"[1,2,3,4,5]\n"
        )

    def test_a_body_that_breaks_off_inserts_nothing(self, modern_database: FreshDatabase) -> None:
        ask(modern_database, b"CREATE TABLE t (a UInt32) ENGINE = Memory")
        body = b"POST /?query=INSERT+INTO+" + modern_database.name.encode() + b".t+FORMAT+CSV HTTP/1.1\r\n"
        with socket.create_connection(("127.0.0.1", modern_database.server.http_port)) as connection:
            connection.sendall(body + b"Host: x\r\nContent-Length: 100\r\n\r\n1\n2\n")
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""
        assert ask(modern_database, b"SELECT count() FROM t").body == b"0\n"

    @pytest.mark.parametrize(
        ("sql", "status", "code"),
        [(b"SELECT * FROM no_such", 404, "60"), (b"SELEKT 1", 400, "62"), (b"SELECT throwIf(1)", 500, "395")],
    )
    def test_an_error_has_its_status_code_and_text(
        self, modern_database: FreshDatabase, sql: bytes, status: int, code: str
    ) -> None:
        answer = ask(modern_database, sql)
        assert (answer.status, answer.code) == (status, code)
        assert answer.body.startswith(f"Code: {code}. DB::Exception: ".encode())

    def test_settings_and_parameters_come_from_the_url(self, modern_database: FreshDatabase) -> None:
        sql = b"SELECT getSetting('max_threads'), {p:String}, currentDatabase()"
        answer = ask(modern_database, sql, max_threads=3, param_p="a'b")
        assert answer.body == f"3\ta\\'b\t{modern_database.name}\n".encode()
        assert ask(modern_database, sql, no_such_setting=3).code == "115"

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
        assert ask(modern_database, broken, {"Content-Encoding": "gzip"}).code == "271"
