import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cdc.alert import Alert, Severity
from cdc.alert_delivery import QUEUE_LENGTH, AlertDelivery

ALERT = Alert("disk_space", "/data", Severity.WARNING, "10 MB left", "Free some space.", 1_760_000_000.0)


class Receiver(HTTPServer):
    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = status
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?key=sesame"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    with Receiver(getattr(request, "param", 200)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_a_command_gets_the_alert_on_its_standard_input(tmp_path: Path) -> None:
    copy = "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, open(sys.argv[1], 'wb'))"
    with AlertDelivery([sys.executable, "-c", copy, str(tmp_path / "got")]) as delivery:
        delivery.deliver(ALERT)
    got = json.loads((tmp_path / "got").read_bytes())
    assert got == ALERT.as_json()
    assert got["severity"] == "warning"


def test_a_webhook_gets_the_alert_as_json(receiver: Receiver) -> None:
    with AlertDelivery(webhook=receiver.url) as delivery:
        delivery.deliver(ALERT)
    assert [json.loads(body) for body in receiver.bodies] == [ALERT.as_json()]


@pytest.mark.parametrize("receiver", [500], indirect=True)
def test_a_refusing_webhook_is_logged_without_its_url(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with AlertDelivery(webhook=receiver.url) as delivery:
        delivery.deliver(ALERT)
    assert "HTTP 500" in caplog.text
    assert "sesame" not in caplog.text


def test_an_unreachable_webhook_is_logged_without_its_url(caplog: pytest.LogCaptureFixture) -> None:
    with AlertDelivery(webhook="http://127.0.0.1:1/?key=sesame") as delivery:
        delivery.deliver(ALERT)
    assert "ConnectionRefusedError" in caplog.text
    assert "sesame" not in caplog.text


def test_a_command_that_hangs_is_ended_and_the_next_alert_still_goes_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = "import sys, time, pathlib; p = pathlib.Path(sys.argv[1])\n"
    script += "if p.exists(): p.with_suffix('.2').touch()\n"
    script += "else:\n p.touch()\n time.sleep(600)"
    delivery = AlertDelivery([sys.executable, "-c", script, str(tmp_path / "ran")], timeout_seconds=3)
    with delivery:
        delivery.deliver(ALERT)
        delivery.deliver(ALERT)
        delivery._queue.put(None)
        delivery._thread.join(20)
    assert (tmp_path / "ran.2").exists()
    assert "TimeoutExpired" in caplog.text


def test_a_full_queue_drops_the_newest_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    delivery = AlertDelivery()
    with caplog.at_level(logging.ERROR):
        for _ in range(QUEUE_LENGTH + 1):
            delivery.deliver(ALERT)
    assert caplog.text.count("not delivered") == 1


def test_the_command_gets_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", "sesame")
    out = tmp_path / "out"
    source = "import os, sys; open(sys.argv[1], 'w').write(str('sesame' in os.environ.values()))"
    with AlertDelivery([sys.executable, "-c", source, str(out)], timeout_seconds=60) as delivery:
        delivery.deliver(ALERT)
    assert out.read_text() == "False"


def test_a_webhook_that_sends_elsewhere_is_not_followed(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    class Elsewhere(Handler):
        def do_POST(self) -> None:
            self.send_response(302)
            self.send_header("Location", receiver.url)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with AlertDelivery(webhook=f"http://127.0.0.1:{server.server_port}/") as delivery:
            delivery.deliver(ALERT)
        server.shutdown()
        thread.join()
    assert receiver.bodies == []
    assert "HTTP 302" in caplog.text
