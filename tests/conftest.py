"""Fixtures that several test modules share: the real servers, one of each kind per test process."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest

from tests.support.clickhouse import Certificates, ClickHouseServer, make_certificates, running_server
from tests.support.modern.fixture import modern_database, modern_server  # noqa: F401

# No deadline: what a test measures is never how fast the machine happens to be.
hypothesis.settings.register_profile("cdc", deadline=None)
hypothesis.settings.load_profile("cdc")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def clickhouse_server(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[ClickHouseServer]:
    """ClickHouse 18.16, shared by a test process; a test that kills or freezes it starts it again."""
    with running_server(tmp_path_factory.mktemp("clickhouse"), certificates) as server:
        yield server


@pytest.fixture(scope="session")
def mutual_tls_server(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[ClickHouseServer]:
    """ClickHouse 18.16 whose TLS ports refuse a client without a certificate."""
    directory = tmp_path_factory.mktemp("clickhouse-mtls")
    with running_server(directory, certificates, mutual_tls=True) as server:
        yield server
