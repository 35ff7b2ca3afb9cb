"""Connections are opened no faster than the limit allows. [S5]"""

from __future__ import annotations

import socket
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from cdc.config.endpoint import Tls, parse_endpoint
from cdc.config.redis import RedisOptions
from cdc.rate import Rate
from cdc.redis_client import connect
from cdc.target.transport.dial import _context, dial
from tests.support.clock import FakeClock


def test_each_connection_takes_from_the_rate() -> None:
    rate = Rate(10.0, FakeClock())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = parse_endpoint(f"clickhouse://127.0.0.1:{listener.getsockname()[1]}")
        for _ in range(3):
            dial(endpoint, 5.0, lambda opened: None, rate).close()
    assert rate.take(8.0) == pytest.approx(0.1), "seven of ten were left"


def test_an_encrypted_key_is_opened_by_the_password_and_nobody_is_asked(tmp_path: Path) -> None:
    key, cert = tmp_path / "k.pem", tmp_path / "c.pem"
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=c -days 2 -passout pass:sesame"
    command = ["openssl", *made.split(), "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    tls = Tls(cert_file=cert, key_file=key)
    _context(replace(tls, key_password=SecretStr("sesame")))
    with pytest.raises(ssl.SSLError, match="client_key_password"):
        _context(tls)
    with pytest.raises(ssl.SSLError) as caught:
        _context(replace(tls, key_password=SecretStr("wrong")))
    assert "wrong" not in str(caught.value)
    assert "sesame" not in repr(replace(tls, key_password=SecretStr("sesame")))
    options = RedisOptions("rediss://h", cert_file=cert, key_file=key, key_password="sesame")
    assert "sesame" not in repr(options)
    client = connect(options)
    assert client.connection_pool.connection_kwargs["ssl_password"] == "sesame"
    unasked = connect(replace(options, key_password="")).connection_pool.make_connection()
    with socket.socket() as plain, pytest.raises((redis.RedisError, OSError)):
        unasked._wrap_socket_with_ssl(plain)
