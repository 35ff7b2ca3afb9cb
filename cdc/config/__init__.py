"""The configuration: TOML files, secrets and environment, as validated values that never change."""

from cdc.config.database import DatabaseConfig, ServedAddress, ServedConfig
from cdc.config.endpoint import Endpoint, Tls, parse_endpoint
from cdc.config.limits import AlertsConfig, LimitsConfig
from cdc.config.loading import DEFAULT_PATH, SECRETS_NAME, load, load_writer, settings_of
from cdc.config.loosened import loosened
from cdc.config.settings import (
    ErrorHandlingConfig,
    LoggingConfig,
    MetricsConfig,
    PerformanceConfig,
    Settings,
    StateConfig,
    SyncConfig,
)
from cdc.config.shown import Shown, secrets_of, shown
from cdc.config.tables import DefaultsConfig, TableConfig
from cdc.config.target import TargetConfig
from cdc.config.writer import WriterSettings

__all__ = [
    "DEFAULT_PATH",
    "SECRETS_NAME",
    "AlertsConfig",
    "DatabaseConfig",
    "DefaultsConfig",
    "Endpoint",
    "ErrorHandlingConfig",
    "LimitsConfig",
    "LoggingConfig",
    "MetricsConfig",
    "PerformanceConfig",
    "ServedAddress",
    "ServedConfig",
    "Settings",
    "Shown",
    "StateConfig",
    "SyncConfig",
    "TableConfig",
    "TargetConfig",
    "Tls",
    "WriterSettings",
    "load",
    "load_writer",
    "loosened",
    "parse_endpoint",
    "secrets_of",
    "settings_of",
    "shown",
]
