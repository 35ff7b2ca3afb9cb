"""How does a test speak to the modern server as a user's program does?"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from clickhouse_driver import Client

from tests.support.modern.fixture import FreshDatabase

Compression = bool | str


@contextlib.contextmanager
def native_client(
    fresh: FreshDatabase, /, *, compression: Compression = False, **options: object
) -> Iterator[Client]:
    """clickhouse-driver's client in the fresh database; `options` are its own."""
    client = Client(
        "127.0.0.1",
        port=fresh.server.native_port,
        compression=compression,
        **{"database": fresh.name, "send_receive_timeout": 30, **options},
    )
    try:
        yield client
    finally:
        client.disconnect()


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP; `code` is that of ClickHouse's exception."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        return self.headers.get("X-ClickHouse-Exception-Code")


def ask(
    fresh: FreshDatabase,
    body: bytes | list[bytes],
    headers: Mapping[str, str] | None = None,
    **parameters: object,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", fresh.server.http_port, timeout=30)
    with contextlib.closing(connection):
        url = "/?" + urlencode({"database": fresh.name, **parameters})
        connection.request("POST", url, iter(body) if isinstance(body, list) else body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
