"""TLS and mutual TLS to a real server, over both protocols. [S1]"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdc.config.endpoint import Endpoint, Tls, parse_endpoint
from cdc.errors import Meaning, TargetError
from cdc.target import TargetOptions, open_target
from tests.support.clickhouse import Certificates, ClickHouseServer, make_certificates
from tests.support.places import TIMEOUTS, place
from tests.support.trades import PLAN, trades

SCHEMES = ("clickhouses", "https")


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def endpoint(server: ClickHouseServer, scheme: str, tls: Tls, host: str = "127.0.0.1") -> Endpoint:
    port = server.ports.native_tls if scheme == "clickhouses" else server.ports.http_tls
    return replace(parse_endpoint(f"{scheme}://{host}:{port}"), tls=tls)


def refused(server: ClickHouseServer, scheme: str, tls: Tls, host: str = "127.0.0.1") -> TargetError:
    with (
        open_target([endpoint(server, scheme, tls, host)], TargetOptions(timeouts=TIMEOUTS)) as target,
        pytest.raises(TargetError) as caught,
    ):
        target.diff(PLAN)
    return caught.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_rows_arrive_over_tls_with_the_authority_checked(
    clickhouse_server: ClickHouseServer, certificates: Certificates, scheme: str, host: str
) -> None:
    with place(f"http://127.0.0.1:{clickhouse_server.http_port}", clickhouse_server.query) as made:
        secure = endpoint(clickhouse_server, scheme, Tls(ca_file=certificates.ca), host)
        with open_target([secure], made.options(auto_create=True)) as target:
            table = target.open(PLAN)
            table.send(table.encode(trades(1, 50_000)))
            assert target.rows(PLAN, None, None).read_all().num_rows == 50_000


def test_a_client_with_its_certificate_is_let_in(
    mutual_tls_server: ClickHouseServer, certificates: Certificates, scheme: str
) -> None:
    tls = Tls(certificates.ca, certificates.client, certificates.client_key)
    with place(f"http://127.0.0.1:{mutual_tls_server.http_port}", mutual_tls_server.query) as made:
        secure = endpoint(mutual_tls_server, scheme, tls)
        with open_target([secure], made.options(auto_create=True)) as target:
            table = target.open(PLAN)
            table.send(table.encode(trades(1, 10)))
        assert made.rows("trades") == 10


def test_a_client_without_a_certificate_is_told_to_set_one(
    mutual_tls_server: ClickHouseServer, certificates: Certificates, scheme: str
) -> None:
    error = refused(mutual_tls_server, scheme, Tls(ca_file=certificates.ca))
    # The alert that says so may be lost as the server hangs up; the remedy names the certificate anyway.
    assert "set cert_file and key_file" in error.remedy


def test_a_server_of_another_authority_is_not_trusted(
    clickhouse_server: ClickHouseServer, scheme: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = make_certificates(tmp_path_factory.mktemp("other"))
    error = refused(clickhouse_server, scheme, Tls(ca_file=other.ca))
    assert error.meaning is Meaning.STOP
    assert "certificate verify failed" in error.problem
    assert "ca_file" in error.remedy


def test_a_certificate_for_another_name_is_not_trusted(
    clickhouse_server: ClickHouseServer, certificates: Certificates, scheme: str
) -> None:
    error = refused(clickhouse_server, scheme, Tls(ca_file=certificates.ca, server_name="other.example"))
    assert error.meaning is Meaning.STOP
    assert "other.example" in error.problem


def test_without_verification_any_certificate_will_do(
    clickhouse_server: ClickHouseServer, scheme: str
) -> None:
    insecure = endpoint(clickhouse_server, scheme, Tls(verify=False))
    with open_target([insecure], TargetOptions()) as target:
        assert target.server_version.major == 18


def test_a_missing_certificate_file_is_named(
    clickhouse_server: ClickHouseServer, certificates: Certificates, scheme: str
) -> None:
    error = refused(clickhouse_server, scheme, Tls(ca_file=certificates.ca.with_name("nowhere.crt")))
    assert error.meaning is Meaning.STOP
    assert "nowhere.crt" in str(error)


def test_tls_to_a_port_without_it_stops_with_a_hint(clickhouse_server: ClickHouseServer) -> None:
    plain = parse_endpoint(f"clickhouses://127.0.0.1:{clickhouse_server.native_port}")
    with open_target([plain], TargetOptions()) as target, pytest.raises(TargetError) as caught:
        target.ping()
    assert caught.value.meaning is Meaning.STOP
    assert "scheme and port" in caught.value.remedy
