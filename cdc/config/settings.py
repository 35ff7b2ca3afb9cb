"""What `config/duckdb_python_config.toml` may say: one frozen model per section, its bounds and its defaults.

The keys of [database], [performance], [logging], [sync] and [error_handling] are those of the configuration
document; the rest extends them in the same style: a name carries its unit (`_sec`, `_ms`, `_mb`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    StringConstraints,
    model_validator,
)

from cdc.config.endpoint import Endpoint, Tls, parse_endpoint
from cdc.config.limits import AlertsConfig, LimitsConfig, SpoolConfig
from cdc.config.programs import Programs, SupervisorConfig
from cdc.config.redis import RedisConfig
from cdc.errors import ConfigError

LogLevel = Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR"]


def text_like(pattern: str, allowed: str) -> AfterValidator:
    """A text that matches `pattern` as a whole; the error says what is `allowed` instead of the pattern."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"write {allowed}")
        return text

    return AfterValidator(check)


Name = Annotated[str, text_like(r"[^\x00-\x1f]{1,256}", "a name of 1 to 256 printable characters")]
"""The name of a column, table or database: it is quoted wherever it is used."""
Names = Annotated[tuple[Name, ...], Field(min_length=1)]
Sql = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
"""SQL that the operator wrote; the only SQL not written by this program."""
Overlap = Annotated[
    str, text_like(r"0|[1-9][0-9]{0,17}(ms|s|m|h|d)?", "a count, or a time such as 500ms, 5s, 2m, 1h, 1d")
]
"""How far a read goes back: `1000` for one that counts; `500ms`, `5s`, `2m`, `1h`, `1d` for a time."""


def _names_a_file(path: Path) -> Path:
    if path.name in ("", ".", ".."):
        raise ValueError("write the path of a file")
    return path


FilePath = Annotated[Path, AfterValidator(_names_a_file)]
Port = Annotated[int, Field(ge=0, le=65535)]
PositiveSeconds = Annotated[float, Field(gt=0, le=86400)]


class Section(BaseModel):
    """A table of the file: an unknown key is an error, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DatabaseConfig(Section):
    """The DuckDB file that another process writes."""

    path: FilePath
    read_only: Literal[True] = True
    """The replicator never writes to its source; `false` is refused."""
    encryption_key: SecretStr | None = None
    """From [encryption] master_key of secrets.toml, or DUCKDB_ENCRYPTION_KEY."""


class PerformanceConfig(Section):
    """What reading may use."""

    cache_size_mb: Annotated[int, Field(ge=64)] = 512
    """Memory limit of the reading DuckDB."""
    threads: Annotated[int, Field(ge=1, le=256)] = 2
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
    busy_percent: Annotated[float, Field(ge=1, le=100)] = 20.0
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


class CompletionConfig(Section):
    """Rows of a group, such as an order's fills, wait until the group is complete."""

    group: Name
    """The column whose equal values make a group."""
    condition: Sql
    """A SQL aggregate over the group's waiting rows that is true when it is complete."""
    max_age_sec: PositiveSeconds = 60.0
    """After this long a group is delivered as it is, with an alert."""
    max_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 100_000
    """No more rows wait; the oldest groups are delivered instead, with an alert."""
    max_mb: Annotated[int, Field(ge=1, le=4096)] = 64
    """The same, of their Arrow bytes."""


class TableConfig(Section):
    """One table to replicate; what is not given comes from [defaults], [sync] or the source's schema."""

    name: Annotated[str, text_like(r"[^.\x00-\x1f]+(\.[^.\x00-\x1f]+)?", "'table' or 'schema.table'")]
    target: Name | None = None
    """The table in ClickHouse; None: the same name."""
    key: Names | None = None
    """The columns that identify a row; None: the primary key."""
    watermark: Name | None = None
    """The column that grows: an integer, decimal, date, timestamp, UUIDv7 or text."""
    version: Name | None = None
    """The column that says which of two states of a row is newer; None: the position it was read at."""
    columns: Names | None = None
    """The columns to replicate; None: all. Key, watermark and version are always among them."""
    filter: Sql | None = None
    """Only rows for which this SQL condition holds."""
    overlap: Overlap | None = None
    completion: CompletionConfig | None = None


class DefaultsConfig(Section):
    """For tables that [[tables]] does not name or does not say it for."""

    key: Names | None = None
    """Used where a table has no primary key."""
    watermark: Name | None = None
    version: Name | None = None
    """Used where a table has a column of this name."""


Setting = bool | int | float | str


class TargetConfig(Section):
    """The tables in ClickHouse, and the connection to it."""

    database: Name | None = None
    """None: the one the endpoint names, else `default`."""
    user: Name | None = None
    """None: the one the endpoint names, else [auth] clickhouse_user of secrets.toml."""
    password: SecretStr | None = None
    """From [auth] clickhouse_password of secrets.toml, or CLICKHOUSE_PASSWORD."""
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
    tls_verify: bool = True
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


def _is_loopback(host: str) -> str:
    if host != "localhost":
        try:
            loopback = ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise ValueError("only a loopback address is allowed: the page has no password; 127.0.0.1 or ::1")
    return host


class MetricsConfig(Section):
    """The page with /metrics, /healthz, /readyz and /status."""

    enabled: bool = True
    host: Annotated[str, AfterValidator(_is_loopback)] = "127.0.0.1"
    port: Port = 9464
    """0: any free port, shown in the log and the status file."""


class StateConfig(Section):
    """What the replicator remembers: marks, failed rows, lease, status file."""

    directory: Path
    """Default: the database's path with `.cdc` added."""


class Settings(Section):
    """The whole configuration, with the origin of every value."""

    database: DatabaseConfig
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
                f"limits.max_memory_mb ({memory_mb}): reading would be slowed for ever"
            )
        names = [table.name.removeprefix("main.") for table in self.tables]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"tables: {twice!r} is listed twice")
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
            verify=self.target.tls_verify,
            server_name=self.target.tls_server_name,
        )
        return tuple(self._complete(url.get_secret_value(), tls) for url in self.sync.clickhouse_endpoint)

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
