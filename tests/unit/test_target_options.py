"""What the options decide for each endpoint, and what they never show. [S7]"""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from cdc.config.endpoint import parse_endpoint
from cdc.target import Compression, TargetOptions

ENDPOINT = parse_endpoint("clickhouse://ada:first@host/shop")


def test_what_is_configured_stands_before_what_the_endpoint_says() -> None:
    plain = TargetOptions()
    own = TargetOptions(database="other", user="bob", password=SecretStr("second"))
    told = [(o.database_at(ENDPOINT), o.user_at(ENDPOINT), o.password_at(ENDPOINT)) for o in (plain, own)]
    assert told == [("shop", "ada", "first"), ("other", "bob", "second")]


def test_the_password_is_not_shown() -> None:
    assert "hunter2" not in repr(TargetOptions(password=SecretStr("hunter2")))


@pytest.mark.parametrize(
    ("compression", "host", "method"),
    [
        ("auto", "127.0.0.1", "none"),
        ("auto", "[::1]", "none"),
        ("auto", "localhost", "none"),
        ("auto", "db.example", "lz4"),
        ("auto", "10.0.0.1", "lz4"),
        ("lz4", "localhost", "lz4"),
        ("zstd", "db.example", "zstd"),
        ("none", "db.example", "none"),
    ],
)
def test_blocks_are_compressed_only_where_the_wire_is_the_slower(
    compression: Compression, host: str, method: str
) -> None:
    endpoint = parse_endpoint(f"clickhouse://{host}")
    assert TargetOptions(compression=compression).compression_to(endpoint) == method
