"""What may `config/duckdb_python_config.toml` say as a whole? One frozen model per section.

Those of the tables, the target, the limits, Redis and the programs are in modules of their own.
The keys of [database], [performance], [logging], [sync] and [error_handling] are those of the configuration
document; the rest extends them in the same style: a name carries its unit (`_sec`, `_ms`, `_mb`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, model_validator

from cdc.config.database import DatabaseConfig, ServedConfig
from cdc.config.endpoint import Endpoint, Tls, is_loopback, parse_endpoint
from cdc.config.kinds import LogLevel, Overlap, Port, PositiveSeconds, Section, text_like
from cdc.config.limits import AlertsConfig, AuditConfig, LimitsConfig, SpoolConfig
from cdc.config.loosened import loosened
from cdc.config.programs import Programs, SupervisorConfig
from cdc.config.redis import RedisConfig
from cdc.config.tables import DefaultsConfig, TableConfig
from cdc.config.target import TargetConfig
from cdc.errors import ConfigError


class PerformanceConfig(Section):
    """What reading may use."""

    cache_size_mb: Annotated[int, Field(ge=64)] = 512
    """Memory limit of the reading DuckDB."""
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    decode_check_percent: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Of rounds of the log that DuckDB decodes besides our own decoder; 100: it decides all."""
    priority: Literal["low", "normal"] = "low"
    """Of the replicator's process: low leaves the processor to the writer wherever both want it."""


class LoggingConfig(Section):
    """Where the log goes, besides the standard error."""

    log_level: LogLevel = "INFO"
    log_path: Path | None = None
    log_format: Literal["auto", "console", "json"] = "auto"
    """Of the standard error; auto: console lines on a terminal, else JSON. The file is always JSON."""
    log_max_mb: Annotated[int, Field(ge=1)] = 50
    """The file is rotated at this size."""
    log_keep: Annotated[int, Field(ge=1, le=1000)] = 5


def _endpoints_parse(urls: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    parsed: list[Endpoint] = []
    for url in urls:
        try:
            endpoint = parse_endpoint(url.get_secret_value())
        except ConfigError as error:
            raise ValueError(f"{error.problem}; {_lower(error.remedy)}") from None
        if any(str(endpoint) == str(other) for other in parsed):
            raise ValueError(f"{endpoint} is listed twice")
        parsed.append(endpoint)
    if len(parsed) > 1 and any(endpoint.kind == "embedded" for endpoint in parsed):
        raise ValueError("an embedded engine (chdb://) cannot be one of several endpoints")
    return urls


class SyncConfig(Section):
    """Where rows go, how many at once, how often."""

    clickhouse_endpoint: Annotated[
        tuple[SecretStr, ...],
        Field(min_length=1),
        AfterValidator(_endpoints_parse),
    ]
    """One URL or several in order of preference. Kept as a secret, for a URL from the environment
    may carry a password; `Settings.endpoints` has them parsed."""
    batch_size: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Rows of the largest batch."""
    max_batch_bytes: Annotated[int, Field(ge=64 << 10, le=1 << 30)] = 32 << 20
    """Arrow bytes of the largest batch."""
    sync_interval_sec: Annotated[float, Field(ge=0, le=86400)] = 0.0
    """0: a change of the file is read at once. Above: one read per interval."""
    linger_ms: Annotated[float, Field(ge=0, le=60_000)] = 10.0
    """The shortest time between two reads of a table; a change after a pause is read at once."""
    busy_percent: Annotated[float, Field(ge=1, le=100)] = 30.0
    """The share of a core that a table may take while changes follow one another."""
    overlap: Overlap = "5s"
    """How far each read goes back on a watermark that is a time, for rows that committed late."""
    overlap_count: Annotated[int, Field(ge=0)] = 1000
    """The same for a watermark that counts."""
    max_skew_sec: Annotated[float, Field(ge=0)] = 300.0
    """A row stamped later than now by more than this is delivered, but does not move the mark."""
    deletes: Literal["ignore", "replicate"] = "ignore"
    """ignore: a row pruned from the source stays in the target."""
    reconcile: bool = True
    reconcile_interval_sec: Annotated[float, Field(ge=1, le=86400)] = 300.0
    """After a comparison that did not end with equal tables, the least time until the table's next."""

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if 0 < self.sync_interval_sec * 1000 < self.linger_ms:
            raise ValueError(
                f"linger_ms ({self.linger_ms:g}) is longer than sync_interval_sec "
                f"({self.sync_interval_sec:g}), which could then never be kept"
            )
        if not self.overlap.endswith(("s", "m", "h", "d")) and self.overlap != "0":
            raise ValueError(
                f"overlap = {self.overlap!r} has no unit; write {self.overlap}s or {self.overlap}ms"
            )
        return self


class ErrorHandlingConfig(Section):
    """What happens when the target does not answer or refuses a row."""

    failed_sync_table: Annotated[
        str, text_like(r"[A-Za-z_][A-Za-z0-9_]{0,62}", "letters, digits and _, at most 63")
    ] = "failed_syncs"
    """The table of the state store that keeps rows which cannot be loaded."""
    retry_backoff_sec: Annotated[tuple[PositiveSeconds, ...], Field(min_length=1)] = (10.0, 30.0, 60.0, 120.0)
    """The waits after the first retries; the last one repeats."""
    retry_first_ms: Annotated[float, Field(gt=0, le=60_000)] = 500.0
    """The wait before each of the first retries."""
    retry_first_attempts: Annotated[int, Field(ge=0, le=1000)] = 4
    breaker_failures: Annotated[int, Field(ge=1)] = 3
    """This many failures in a row and the target is left alone for `breaker_open_sec`."""
    breaker_open_sec: PositiveSeconds = 5.0
    halted_sec: PositiveSeconds = 60.0
    """How long a halted table waits before it is set up again."""


def _own_address(host: str) -> str:
    if not is_loopback(host):
        raise ValueError("only a loopback address is allowed: the page has no password; 127.0.0.1 or ::1")
    return host


class MetricsConfig(Section):
    """The page with /metrics, /healthz, /readyz and /status."""

    enabled: bool = True
    host: Annotated[str, AfterValidator(_own_address)] = "127.0.0.1"
    port: Port = 9464
    """0: any free port, shown in the log and the status file."""


class StateConfig(Section):
    """What the replicator remembers: marks, failed rows, lease, status file."""

    directory: Path
    """Default: the database's path with `.cdc` added."""


class Settings(Section):
    """The whole configuration, with the origin of every value."""

    database: DatabaseConfig
    served: ServedConfig = ServedConfig()
    performance: PerformanceConfig = PerformanceConfig()
    logging: LoggingConfig = LoggingConfig()
    sync: SyncConfig
    error_handling: ErrorHandlingConfig = ErrorHandlingConfig()
    tables: tuple[TableConfig, ...] = ()
    """Empty: every table with a key and a watermark."""
    defaults: DefaultsConfig = DefaultsConfig()
    target: TargetConfig = TargetConfig()
    metrics: MetricsConfig = MetricsConfig()
    state: StateConfig
    spool: SpoolConfig = SpoolConfig()
    limits: LimitsConfig = LimitsConfig()
    audit: AuditConfig = AuditConfig()
    alerts: AlertsConfig = AlertsConfig()
    redis: RedisConfig = RedisConfig()
    supervisor: SupervisorConfig = SupervisorConfig()
    programs: Programs = Field(default_factory=dict)

    _path: Path = PrivateAttr(default_factory=Path)
    _origins: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.sync.max_batch_bytes > self.performance.cache_size_mb << 20:
            raise ValueError(
                f"sync.max_batch_bytes ({self.sync.max_batch_bytes}) is above performance.cache_size_mb "
                f"({self.performance.cache_size_mb} MB): DuckDB could not hold one batch"
            )
        memory_mb = self.limits.max_memory_mb
        if memory_mb and self.performance.cache_size_mb > memory_mb * 0.8:
            raise ValueError(
                f"performance.cache_size_mb ({self.performance.cache_size_mb}) is above 80 % of "
                f"limits.max_memory_mb ({memory_mb}): rows that wait to be delivered would have no room"
            )
        names = [table.name.removeprefix("main.") for table in self.tables]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"tables: {twice!r} is listed twice")
        if self.target.reader_password is not None and self.target.reader_user is None:
            raise ValueError(
                "there is a password of a reader, and no name; write reader_user into [target], or "
                "clickhouse_reader_user into [auth] of secrets.toml"
            )
        if self.database.address is not None and self.database.token is None:
            raise ValueError(
                f"database.path is {self.database.address}, and there is no token; write it as quack_token "
                "of [auth] into secrets.toml, or into the environment as DUCKDB_QUACK_TOKEN"
            )
        if self.served.idle_poll_ms < self.served.poll_ms:
            raise ValueError(
                "served.idle_poll_ms is below served.poll_ms: looks would be rarer in a busy table"
            )
        if self.logging.log_path == self.database.path:
            raise ValueError("logging.log_path is database.path: the log would overwrite the database")
        if self.metrics.enabled and self.metrics.port and self.metrics.port == self.supervisor.metrics_port:
            raise ValueError(f"metrics.port and supervisor.metrics_port are both {self.metrics.port}")
        endpoints = [parse_endpoint(url.get_secret_value()) for url in self.sync.clickhouse_endpoint]
        tls_asked = self.target.ca_file or self.target.cert_file
        if tls_asked and not any(endpoint.secure for endpoint in endpoints):
            raise ValueError(
                "target has TLS files, but no endpoint uses TLS; write clickhouses:// or https://"
            )
        if self.target.cluster and endpoints[0].kind == "embedded":
            raise ValueError("target.cluster needs a server; the endpoint is the embedded engine")
        for setting in loosened(self):
            if not setting.allowed:
                raise ValueError(setting.problem)
        return self

    @property
    def path(self) -> Path:
        """The file these settings were loaded from."""
        return self._path

    @property
    def origins(self) -> Mapping[str, str]:
        """Where each value that is not a default came from, by dotted key: `sync.batch_size`."""
        return self._origins

    @property
    def status_path(self) -> Path:
        """The status file."""
        return self.state.directory / "status.json"

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints in order, each complete: user, password, database and TLS filled in."""
        tls = Tls(
            ca_file=self.target.ca_file,
            cert_file=self.target.cert_file,
            key_file=self.target.key_file,
            key_password=self.target.client_key_password,
            verify=self.target.tls_verify,
            server_name=self.target.tls_server_name,
        )
        return tuple(self._complete(url.get_secret_value(), tls) for url in self.sync.clickhouse_endpoint)

    @property
    def reader_endpoints(self) -> tuple[Endpoint, ...]:
        """The same, for one who only reads: with the credentials of [target] reader_user, if there is one."""
        user, password = self.target.reader_user, self.target.reader_password
        if user is None:
            return self.endpoints
        return tuple(
            replace(endpoint, user=user, password=password or SecretStr("")) for endpoint in self.endpoints
        )

    def _complete(self, url: str, tls: Tls) -> Endpoint:
        endpoint = parse_endpoint(url)
        named = re.match(r"^[a-z]+://[^/@]*@", url) is not None  # "default" in the URL is not the default
        password = endpoint.password if endpoint.password.get_secret_value() else self.target.password
        return replace(
            endpoint,
            user=endpoint.user if named else self.target.user or endpoint.user,
            password=password or SecretStr(""),
            database=self.target.database or endpoint.database,
            tls=tls,
        )


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
