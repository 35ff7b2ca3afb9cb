"""Do real clients get from the modern server what they get from ClickHouse itself? [issue 2 part 10]"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException

from tests.support.modern.fixture import FreshDatabase

Compression = bool | str


@contextlib.contextmanager
def _client(
    database: FreshDatabase, *, compression: Compression = False, **options: object
) -> Iterator[Client]:
    client = Client(
        "127.0.0.1",
        port=database.server.native_port,
        database=database.name,
        compression=compression,
        send_receive_timeout=30,
        **options,
    )
    try:
        yield client
    finally:
        client.disconnect()


@pytest.mark.parametrize("compression", [False, "lz4", "zstd"])
def test_rows_inserted_by_the_driver_come_back_unchanged(
    modern_database: FreshDatabase, compression: Compression
) -> None:
    with _client(modern_database, compression=compression) as client:
        client.execute("CREATE TABLE t (a UInt32, s Nullable(String)) ENGINE = ReplacingMergeTree ORDER BY a")
        rows = [(1, "one"), (2, None), (3, "x" * 100_000)]
        assert client.execute("INSERT INTO t (a, s) VALUES", rows) == 3
        assert client.execute("SELECT * FROM t ORDER BY a") == rows


def test_an_exception_carries_the_engines_code_and_the_connection_goes_on(
    modern_database: FreshDatabase,
) -> None:
    with _client(modern_database) as client:
        with pytest.raises(ServerException) as raised:
            client.execute("SELECT * FROM no_such_table")
        assert raised.value.code == 60
        assert "UNKNOWN_TABLE" in str(raised.value)
        assert client.execute("SELECT 1") == [(1,)]
