"""Can the modern server be broken on purpose: users without rights, faults, kills? [issue 2 part 10]"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clickhouse_driver.errors import NetworkError, ServerException

from tests.support.modern.clients import ask, native_client
from tests.support.modern.faults import Fault, read_only, too_many_parts
from tests.support.modern.fixture import READER, WRITER, FreshDatabase, ModernServer
from tests.support.modern.users import User
from tests.support.waiting import wait_until


class TestUsers:
    def test_a_wrong_password_is_refused_over_both_protocols(self, modern_database: FreshDatabase) -> None:
        with native_client(modern_database, user=WRITER.name, password="wrong") as client:
            with pytest.raises(ServerException) as raised:
                client.execute("SELECT 1")
            assert raised.value.code == 516
        answer = ask(modern_database, b"SELECT 1", user="nobody")
        assert (answer.status, answer.code) == (403, "516")

    def test_a_user_who_may_only_insert_can_insert_and_no_more(self, modern_database: FreshDatabase) -> None:
        with native_client(modern_database) as client:
            client.execute("CREATE TABLE t (a Int8, s String) ENGINE = MergeTree ORDER BY a")
        with native_client(modern_database, user=WRITER.name, password=WRITER.password) as client:
            assert client.execute("INSERT INTO t (s, a) VALUES", [("x", 1)]) == 1
            for sql in ("SELECT * FROM t", "DROP TABLE t", "CREATE TABLE u (a Int8) ENGINE = Memory"):
                with pytest.raises(ServerException, match="writer: Not enough privileges") as raised:
                    client.execute(sql)
                assert raised.value.code == 497
        with native_client(modern_database, user=READER.name, password=READER.password) as client:
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
        ask(modern_database, b"CREATE TABLE t (a Int8) ENGINE = Memory")
        assert ask(modern_database, b"1\n", headers, query="INSERT INTO t FORMAT CSV").status == 200
        answer = ask(modern_database, b"SELECT * FROM t", headers)
        assert (answer.status, answer.code) == (403, "497")


@pytest.fixture
def table(modern_database: FreshDatabase) -> FreshDatabase:
    """A database with an empty table `t (a Int8)`."""
    ask(modern_database, b"CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
    return modern_database


Insert = Callable[[FreshDatabase, int], int | None]
"""Inserts one row; gives the exception's code, 0 for a lost connection, None when it worked."""


def _insert_natively(database: FreshDatabase, row: int) -> int | None:
    with native_client(database) as client:
        try:
            client.execute("INSERT INTO t VALUES", [(row,)])
        except ServerException as error:
            return int(error.code)
        except (EOFError, ConnectionError):
            return 0
    return None


def _insert_over_http(database: FreshDatabase, row: int) -> int | None:
    try:
        answer = ask(database, b"%d\n" % row, query="INSERT INTO t FORMAT CSV")
    except (http.client.RemoteDisconnected, ConnectionError):
        return 0
    return int(answer.code) if answer.code else None


def _rows(database: FreshDatabase) -> list[int]:
    return [int(row) for row in ask(database, b"SELECT a FROM t ORDER BY a").body.split()]


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
    def test_a_frozen_server_answers_when_it_thaws(self, modern_server: ModernServer) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", modern_server.http_port, timeout=0.2)
        with contextlib.closing(connection):
            with modern_server.frozen():
                connection.request("GET", "/ping")
                assert connection.sock is not None
                with pytest.raises(TimeoutError):
                    connection.sock.recv(1)
            connection.sock.settimeout(30)
            assert connection.getresponse().read() == b"Ok.\n"

    def test_other_users_and_grants_come_with_a_restart(self, tmp_path: Path) -> None:
        user = User("cdc", "one", ("INSERT ON *.*", "CREATE TABLE ON *.*"))
        with ModernServer(tmp_path, (user,)) as server:
            database = FreshDatabase(server, "default")
            credentials = {"X-ClickHouse-User": "cdc", "X-ClickHouse-Key": "one"}
            create = b"CREATE TABLE t (a Int8) ENGINE = ReplacingMergeTree ORDER BY a"
            assert ask(database, create, credentials).code is None
            assert ask(database, b"1", credentials, query="INSERT INTO t FORMAT CSV").code is None
            server.users = (dataclasses.replace(user, grants=("SELECT ON *.*",)),)
            server.restart()
            assert ask(database, b"2", credentials, query="INSERT INTO t FORMAT CSV").code == "497"
            assert ask(database, b"SELECT * FROM t", credentials).body == b"1\n"

    def test_what_was_acknowledged_survives_a_kill(self, table: FreshDatabase) -> None:
        ports = table.server.native_port, table.server.http_port
        with native_client(table) as client:
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
