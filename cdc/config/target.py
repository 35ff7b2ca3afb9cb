"""What are the tables in ClickHouse like, and the connection to it? [target]."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from cdc.config.kinds import Name, PositiveSeconds, Section, Sql

Setting = bool | int | float | str


class TargetConfig(Section):
    """The tables in ClickHouse, and the connection to it."""

    database: Name | None = None
    """None: the one the endpoint names, else `default`."""
    user: Name | None = None
    """None: the one the endpoint names, else [auth] clickhouse_user of secrets.toml."""
    password: SecretStr | None = None
    """From [auth] clickhouse_password of secrets.toml, or CLICKHOUSE_PASSWORD."""
    reader_user: Name | None = None
    """Who asks for `cdc query --fallback`; also [auth] clickhouse_reader_user. None: `user`."""
    reader_password: SecretStr | None = None
    """From [auth] clickhouse_reader_password of secrets.toml."""
    auto_create: bool = False
    """Create missing databases, tables and views. False: `cdc schema apply` does, and the replicator's own
    user needs no right but INSERT."""
    cluster: Name | None = None
    """Create the tables ON CLUSTER, with a Replicated engine."""
    partition_by: Sql | None = None
    """An expression over the columns, for PARTITION BY of tables that are created."""
    engine_settings: Mapping[Name, Setting] = Field(default_factory=dict)
    """SETTINGS of tables that are created."""
    compression: Literal["auto", "none", "lz4", "zstd"] = "auto"
    """Of blocks on the wire; auto: lz4, and none within one machine."""
    connect_timeout_sec: PositiveSeconds = 5.0
    send_timeout_sec: PositiveSeconds = 30.0
    receive_timeout_sec: PositiveSeconds = 60.0
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    """With `cert_file`: the client's own certificate, for mutual TLS."""
    client_key_password: SecretStr | None = None
    """Of an encrypted key; from [auth] client_key_password of secrets.toml."""
    tls_verify: bool = True
    allow_unverified_tls: bool = False
    """With `tls_verify = false`, which takes whoever answers on another host."""
    allow_plaintext_password: bool = False
    """Send the password to another host without TLS."""
    tls_server_name: str | None = None
    """The name in the server's certificate, where it is not the endpoint's host."""
    version_column: Name = "_cdc_version"
    deleted_column: Name = "_cdc_deleted"
    synced_at_column: Name = "_cdc_synced_at"

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together; give both or neither")
        names = (self.version_column, self.deleted_column, self.synced_at_column)
        if len(set(names)) < len(names):
            raise ValueError("version_column, deleted_column and synced_at_column must differ")
        return self
