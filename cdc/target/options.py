"""How are the tables made and reached? All of `[target]` that this package is told, validated already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from pydantic import SecretStr

from cdc.config.endpoint import Endpoint, is_loopback
from cdc.rate import Rate

Compression = Literal["auto", "none", "lz4", "zstd"]
Method = Literal["none", "lz4", "zstd"]

_EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The longest a connection waits, in seconds. There is no wait without one."""

    connect: float = 5.0
    """For the connection with its greeting, and for the answer to a ping."""
    send: float = 30.0
    """For each megabyte sent."""
    receive: float = 60.0
    """For the next byte of an answer, while the server works."""


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What holds for every table of the target. `repr` never shows the password.

    `user`, `password` and `database` stand before those of an endpoint, where they are given.
    """

    database: str | None = None
    user: str | None = None
    password: SecretStr | None = None
    cluster: str | None = None
    """Create the tables ON CLUSTER, with a Replicated engine."""
    partition_by: str | None = None
    """A SQL expression for PARTITION BY of tables that are created, from the configuration."""
    engine_settings: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    """SETTINGS of tables that are created, as SQL literals by name."""
    auto_create: bool = False
    compression: Compression = "auto"
    timeouts: Timeouts = field(default_factory=Timeouts)
    dial_rate: Rate | None = field(default=None, compare=False)
    """Bounds how many connections are opened in a second, over all that share these options."""
    sent: Rate | None = field(default=None, compare=False)
    """Told of each byte as it is sent, compressed; whoever asks it before an insert keeps to its bound."""
    settings: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    """Query settings sent with every insert and query."""
    version_column: str = "_cdc_version"
    deleted_column: str = "_cdc_deleted"
    synced_at_column: str = "_cdc_synced_at"

    @property
    def own_columns(self) -> tuple[str, str, str]:
        """The columns that are added to the source's."""
        return (self.version_column, self.deleted_column, self.synced_at_column)

    def database_at(self, endpoint: Endpoint) -> str:
        """The database that the tables at `endpoint` are in."""
        return self.database or endpoint.database or "default"

    def compression_to(self, endpoint: Endpoint) -> Method:
        """How blocks are compressed on their way. `auto` is LZ4, and nothing within one machine, where the
        wire is faster than any compressor: 1.3 against 0.5 million rows a second on two busy cores."""
        if self.compression != "auto":
            return self.compression
        return "none" if is_loopback(endpoint.host) else "lz4"

    def user_at(self, endpoint: Endpoint) -> str:
        return self.user or endpoint.user

    def password_at(self, endpoint: Endpoint) -> str:
        """The password itself: for the wire, never for a text."""
        own = endpoint.password if self.password is None else self.password
        return own.get_secret_value()
