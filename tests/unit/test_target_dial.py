"""Connections are opened no faster than the limit allows. [S5]"""

from __future__ import annotations

import socket

import pytest

from cdc.config.endpoint import parse_endpoint
from cdc.rate import Rate
from cdc.target.transport.dial import dial
from tests.support.clock import FakeClock


def test_each_connection_takes_from_the_rate() -> None:
    rate = Rate(10.0, FakeClock())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = parse_endpoint(f"clickhouse://127.0.0.1:{listener.getsockname()[1]}")
        for _ in range(3):
            dial(endpoint, 5.0, lambda opened: None, rate).close()
    assert rate.take(8.0) == pytest.approx(0.1), "seven of ten were left"
