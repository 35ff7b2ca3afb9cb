"""What `config/duckdb_rust_config.toml` may say: the settings of the process that writes the file. [W3]

[database], [performance], [logging], [sync] and [error_handling] have the keys of the configuration document;
[wal] extends them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cdc.config.kinds import FilePath, LogLevel, PositiveSeconds, Section, text_like

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

Size = Annotated[str, text_like(r"[1-9][0-9]{0,8}([KMG]i?B)", "a size such as 16MB or 1GiB")]
"""A size as DuckDB writes it: `16MB`, `1GiB`."""


def size_bytes(size: str) -> int:
    """The bytes of a `Size`."""
    unit = size.lstrip("0123456789")
    return int(size.removesuffix(unit)) * _UNITS[unit]


class WriterDatabaseConfig(Section):
    path: FilePath
    read_only: Literal[False] = False
    """The writer writes; `true` is refused."""


class WriterPerformanceConfig(Section):
    max_threads: Annotated[int, Field(ge=1, le=256)] = 4
    cache_size_mb: Annotated[int, Field(ge=64)] = 256
    """DuckDB's memory limit."""
    temp_directory: Path | None = None


class WriterLoggingConfig(Section):
    log_level: LogLevel = "INFO"
    log_path: Path | None = None


class WriterSyncConfig(Section):
    """Keys of the document that concern a writer which sends its own backups; the reference writers do not:
    the replicator does that work. They are checked, so that one file serves every writer."""

    clickhouse_endpoint: str = "http://localhost:8123"
    backup_interval_sec: PositiveSeconds = 600.0
    max_retry_attempts: Annotated[int, Field(ge=0)] = 5


class WriterErrorHandlingConfig(Section):
    failed_sync_table: str = "failed_syncs"
    retry_backoff_sec: Annotated[tuple[PositiveSeconds, ...], Field(min_length=1)] = (5.0, 15.0, 30.0, 60.0)


class WalConfig(Section):
    """When DuckDB folds its log into the file. [W1]"""

    checkpoint_threshold: Size = "16MB"
    wal_autocheckpoint_entries: Annotated[int, Field(ge=0)] = 5000
    """0: only `checkpoint_threshold` counts."""
    max_wal_mb: Annotated[int, Field(ge=1)] = 256
    """The writer forces a checkpoint once its log is larger."""

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if size_bytes(self.checkpoint_threshold) > self.max_wal_mb << 20:
            raise ValueError(
                f"checkpoint_threshold ({self.checkpoint_threshold}) is above max_wal_mb ({self.max_wal_mb})"
            )
        return self


class WriterSettings(Section):
    """The whole file."""

    database: WriterDatabaseConfig
    performance: WriterPerformanceConfig = WriterPerformanceConfig()
    logging: WriterLoggingConfig = WriterLoggingConfig()
    sync: WriterSyncConfig = WriterSyncConfig()
    error_handling: WriterErrorHandlingConfig = WriterErrorHandlingConfig()
    wal: WalConfig = WalConfig()
