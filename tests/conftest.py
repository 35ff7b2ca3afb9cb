"""Fixtures that several test modules share: the real servers, one of each kind per test process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clickhouse import Certificates, ClickHouseServer, make_certificates, running_server
from tests.support.on_windows import reason_to_skip
from tests.support.places import PLACES, Place, place
from tests.support.redis import RedisServer

if sys.platform != "win32":  # the embedded engine has no build for it
    from tests.support.modern.fixture import modern_database, modern_process, modern_server

    __all__ = ["modern_database", "modern_process", "modern_server"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items if sys.platform == "win32" else ():
        if (reason := reason_to_skip(item.name)) is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def _clickhouse(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[ClickHouseServer]:
    with running_server(tmp_path_factory.mktemp("clickhouse"), certificates) as server:
        yield server


@pytest.fixture
def clickhouse_server(_clickhouse: ClickHouseServer) -> ClickHouseServer:
    """ClickHouse 18.16, shared by a test process; it runs, whatever the test before did to it."""
    _clickhouse.ensure()
    return _clickhouse


@pytest.fixture(scope="session")
def mutual_tls_server(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[ClickHouseServer]:
    """ClickHouse 18.16 whose TLS ports refuse a client without a certificate."""
    directory = tmp_path_factory.mktemp("clickhouse-mtls")
    with running_server(directory, certificates, mutual_tls=True) as server:
        yield server


@pytest.fixture
def redis_server(tmp_path: Path, certificates: Certificates) -> Iterator[RedisServer]:
    """Redis 7, of the test's own."""
    with RedisServer(tmp_path, certificates) as server:
        yield server


@pytest.fixture(scope="session")
def embedded_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one directory that the engine embedded in this test process may have open."""
    return tmp_path_factory.mktemp("embedded")


@pytest.fixture(params=PLACES)
def any_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Each kind of target in turn, with a database of its own."""
    kind = request.param
    if kind == "embedded":
        yield from _embedded(request.getfixturevalue("embedded_directory"))
        return
    age, wire = kind.split("-")
    server = request.getfixturevalue("clickhouse_server" if age == "old" else "modern_server")
    scheme, port = ("clickhouse", server.native_port) if wire == "native" else ("http", server.http_port)
    with place(f"{scheme}://127.0.0.1:{port}", lambda sql: str(server.query(sql)).removesuffix("\n")) as made:
        yield made


def _embedded(directory: Path) -> Iterator[Place]:
    from chdb.state import connect

    connection = connect(str(directory))
    try:
        with place(
            f"chdb://{directory}",
            lambda sql: connection.query(sql, "TabSeparated").bytes().decode().removesuffix("\n"),
        ) as made:
            yield made
    finally:
        connection.close()
