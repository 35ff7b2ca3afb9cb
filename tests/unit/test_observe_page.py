"""The page on loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from cdc.config import MetricsConfig
from cdc.errors import ConfigError
from cdc.observe import page as page_module
from cdc.observe.health import HealthReport
from cdc.observe.metrics import Metrics
from cdc.observe.page import Page
from cdc.observe.status import Status
from tests.support.waiting import wait_until


class Subject:
    """A replicator whose health is set by the test."""

    def __init__(self) -> None:
        self.live_health = HealthReport()
        self.ready_health = HealthReport()

    def render_metrics(self) -> bytes:
        return Metrics().render()

    def live(self) -> HealthReport:
        return self.live_health

    def ready(self) -> HealthReport:
        return self.ready_health

    def status(self) -> Status:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        return Status(
            state="running",
            version="1",
            pid=1,
            process_start=1,
            started_at=at,
            updated_at=at,
            config="c",
            source="s",
            targets=(),
        )


@pytest.fixture
def subject() -> Subject:
    return Subject()


@pytest.fixture
def page(subject: Subject) -> Iterator[Page]:
    with Page(MetricsConfig(port=0), subject) as page:
        yield page


def get(page: Page, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    where = urlsplit(page.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def test_metrics_are_served_as_prometheus_reads_them(page: Page) -> None:
    status, kind, body = get(page, "/metrics?x=1")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert b"cdc_build_info{" in body


def test_a_replicator_that_is_well_is_live_and_ready(page: Page) -> None:
    assert get(page, "/healthz")[::2] == (200, b"ok\n")
    assert get(page, "/readyz")[::2] == (200, b"ok\n")


def test_what_is_not_well_is_named_line_by_line(page: Page, subject: Subject) -> None:
    subject.ready_health = HealthReport(("main.a: failed", "main.b: setup"))
    assert get(page, "/readyz")[::2] == (503, b"main.a: failed\nmain.b: setup\n")
    assert get(page, "/healthz")[0] == 200
    subject.live_health = HealthReport(("main.a: nothing heard",))
    assert get(page, "/healthz")[0] == 503


def test_the_status_is_served_as_json(page: Page) -> None:
    status, kind, body = get(page, "/status")
    assert (status, kind) == (200, "application/json")
    assert json.loads(body)["state"] == "running"


def test_another_path_is_answered_with_those_there_are(page: Page) -> None:
    assert get(page, "/")[::2] == (404, b"/metrics /healthz /readyz /status\n")


def test_a_head_request_has_no_body(page: Page) -> None:
    assert get(page, "/healthz", "HEAD")[::2] == (200, b"")


def test_only_reading_is_possible(page: Page) -> None:
    assert get(page, "/status", "POST")[0] == 501


def test_a_port_in_use_is_a_configuration_error_with_the_remedy(page: Page, subject: Subject) -> None:
    port = urlsplit(page.url).port or 0
    with (
        pytest.raises(ConfigError, match=r"metrics\.port, 0 for any"),
        Page(MetricsConfig(port=port), subject),
    ):
        raise AssertionError("two pages on one port")


def test_the_end_waits_for_no_client_and_frees_the_port(subject: Subject) -> None:
    with Page(MetricsConfig(port=0), subject) as page:
        port = urlsplit(page.url).port or 0
        idle = socket.create_connection(("127.0.0.1", port))  # says nothing
        assert get(page, "/healthz")[0] == 200
    idle.close()
    with Page(MetricsConfig(port=port), subject) as page:
        assert get(page, "/healthz")[0] == 200
    assert [thread.name for thread in threading.enumerate() if thread.name == "metrics page"] == []


def test_many_clients_are_served_at_once(page: Page) -> None:
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(get(page, "/metrics")[0])) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 16


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:9464", 200),
        ("[::1]:9464", 200),
        ("attacker.example", 421),
        ("127.0.0.1.attacker.example:9464", 421),
        ("", 421),
    ],
)
def test_only_who_asks_by_address_or_as_localhost_is_answered(page: Page, host: str, status: int) -> None:
    where = urlsplit(page.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    connection.putrequest("GET", "/healthz", skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


def test_a_browser_is_told_to_take_it_for_what_it_says_it_is_and_to_frame_it_nowhere(page: Page) -> None:
    where = urlsplit(page.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    connection.request("GET", "/status")
    headers = connection.getresponse().headers
    connection.close()
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_a_client_that_sends_a_byte_now_and_then_is_hung_up_on(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "REQUEST_SECONDS", 0.5)
    with Page(MetricsConfig(port=0), subject) as page:
        where = urlsplit(page.url)
        with socket.create_connection((where.hostname or "", where.port or 0), 10) as slow:
            began = time.monotonic()
            with contextlib.suppress(OSError):
                while time.monotonic() - began < 30:
                    slow.sendall(b"G")
                    time.sleep(0.1)
            assert time.monotonic() - began < 20


def test_more_connections_than_there_is_room_for_are_hung_up_on_until_others_end(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "MOST_CONNECTIONS", 2)
    with Page(MetricsConfig(port=0), subject) as page, contextlib.ExitStack() as stack:
        where = urlsplit(page.url)
        address = (where.hostname or "", where.port or 0)
        for _ in range(2):
            held = stack.enter_context(socket.create_connection(address, 10))
            held.sendall(b"GET /healthz HTTP/1.1\r\n")
        time.sleep(0.3)  # they are accepted in order, before the third
        with socket.create_connection(address, 10) as third:
            third.settimeout(10)
            with contextlib.suppress(ConnectionError):
                assert third.recv(1) == b""
        held.close()
        wait_until(lambda: get_or_none(page) == 200, "there is room again")


def get_or_none(page: Page) -> int | None:
    try:
        return get(page, "/healthz")[0]
    except (OSError, http.client.HTTPException):
        return None
