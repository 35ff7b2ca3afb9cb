"""How file, secrets and environment become one validated configuration, and where each value is from.

Precedence, strongest first: environment, secrets.toml, the file, defaults.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cdc.config.database import parse_address
from cdc.config.endpoint import parse_endpoint
from cdc.config.files import read_toml, refuse_open_key
from cdc.config.problems import describe
from cdc.config.settings import Settings
from cdc.config.variables import filled_in, without_references
from cdc.config.writer import WriterSettings
from cdc.errors import ConfigError

DEFAULT_PATH = Path("config/duckdb_python_config.toml")
SECRETS_NAME = "secrets.toml"

ENVIRONMENT = {
    "DUCKDB_PATH": "database.path",
    "CLICKHOUSE_ENDPOINT": "sync.clickhouse_endpoint",
    "DUCKDB_PYTHON_LOG": "logging.log_path",
    "CLICKHOUSE_USER": "target.user",
    "CLICKHOUSE_PASSWORD": "target.password",
    "DUCKDB_ENCRYPTION_KEY": "database.encryption_key",
    "DUCKDB_QUACK_TOKEN": "database.token",
    "REDIS_PASSWORD": "redis.password",
}
"""Environment variables and the keys they override; an empty variable counts as not set."""

WRITER_ENVIRONMENT = {
    "DUCKDB_PATH": "database.path",
    "CLICKHOUSE_ENDPOINT": "sync.clickhouse_endpoint",
    "DUCKDB_RUST_LOG": "logging.log_path",
}

SECRETS = {
    "auth.clickhouse_user": "target.user",
    "auth.clickhouse_password": "target.password",
    "auth.clickhouse_reader_user": "target.reader_user",
    "auth.clickhouse_reader_password": "target.reader_password",
    "auth.redis_password": "redis.password",
    "auth.client_key_password": "target.client_key_password",
    "auth.redis_client_key_password": "redis.client_key_password",
    "auth.quack_token": "database.token",
    "encryption.master_key": "database.encryption_key",
    "alerts.webhook": "supervisor.alerts.webhook",
}
"""Keys of secrets.toml and the keys they become."""

ONLY_SECRET = (
    "target.password",
    "target.reader_password",
    "redis.password",
    "target.client_key_password",
    "redis.client_key_password",
    "database.encryption_key",
    "database.token",
    "supervisor.alerts.webhook",
)

Model = TypeVar("Model", bound=BaseModel)


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of the file at `path`, of secrets.toml beside it and of `environ`.

    Raises:
        ConfigError: naming the file or variable, the key, the value (never a secret) and what is allowed.
    """
    path = path or DEFAULT_PATH
    return settings_of(read_toml(path), path, environ)


def settings_of(data: dict[str, Any], path: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of what the file at `path` says, of secrets.toml beside it and of `environ`.

    Raises:
        ConfigError: as `load`.
    """
    _refuse_secrets(data, path)
    data = filled_in(data, path, environ)
    origins = {key: f"{path}:{key}" for key, _ in leaves(data)}
    secrets_path = path.parent / SECRETS_NAME
    if secrets_path.exists():
        _overlay_secrets(data, origins, secrets_path, environ)
    _overlay_environment(data, origins, ENVIRONMENT, environ)
    _normalise(data, path)
    settings = _validate(Settings, data, path, origins)
    settings._path = path
    settings._origins = origins
    for key_file in (settings.target.key_file, settings.redis.key_file):
        refuse_open_key(key_file)
    return settings


def load_writer(path: Path, environ: Mapping[str, str] = os.environ) -> WriterSettings:
    """The settings of the reference writers: `config/duckdb_rust_config.toml` and the environment. [W3]

    Raises:
        ConfigError: as `load`.
    """
    data = filled_in(read_toml(path), path, environ)
    origins = {key: f"{path}:{key}" for key, _ in leaves(data)}
    _overlay_environment(data, origins, WRITER_ENVIRONMENT, environ)
    return _validate(WriterSettings, data, path, origins)


def _validate(model: type[Model], data: dict[str, Any], path: Path, origins: Mapping[str, str]) -> Model:
    try:
        # As JSON: strictness there refuses "50" and true as numbers, yet lets a text be a path.
        return model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        raise describe(error, model, path, origins) from None


def _normalise(data: dict[str, Any], config: Path) -> None:
    """One endpoint becomes a list of one; the state is kept beside the database, or beside the configuration
    where that is served."""
    if isinstance(url := _get(data, "sync.clickhouse_endpoint"), str):
        _set(data, "sync.clickhouse_endpoint", [url])
    if isinstance(path := _get(data, "database.path"), str) and _get(data, "state.directory") is None:
        _set(data, "state.directory", f"{_beside(path, config)}.cdc")


def _beside(database: str, config: Path) -> str:
    """What the state's directory is named for."""
    if not database.startswith("quack:"):
        return database
    try:
        return str(config.parent / parse_address(database).file_name)
    except ValueError:
        return database  # the model says what is wrong with it


def _refuse_secrets(data: Mapping[str, Any], path: Path) -> None:
    for key in ONLY_SECRET:
        if _get(data, key) is not None:
            source = next(name for name, goal in SECRETS.items() if goal == key)
            section, _, name = source.partition(".")
            raise ConfigError(
                "use the configuration",
                path,
                f"{key} is a secret and may not stand in this file",
                f"Move it to {path.parent / SECRETS_NAME}, as {name} of [{section}]",
            )
    urls = _get(data, "sync.clickhouse_endpoint")
    for url in urls if isinstance(urls, list) else [urls]:
        if isinstance(url, str) and _has_password(url):
            raise ConfigError(
                "use the configuration",
                path,
                "sync.clickhouse_endpoint contains a password",
                f"Move it to {path.parent / SECRETS_NAME}, as clickhouse_password of [auth]",
            )


def _has_password(url: str) -> bool:
    try:
        return bool(parse_endpoint(without_references(url)).password.get_secret_value())
    except ConfigError:
        return False  # the model says what is wrong with it


def _overlay_secrets(
    data: dict[str, Any], origins: dict[str, str], path: Path, environ: Mapping[str, str]
) -> None:
    for key, value in leaves(filled_in(read_toml(path, secret=True), path, environ)):
        goal = SECRETS.get(key)
        if goal is None or not isinstance(value, str):
            allowed = ", ".join(f"[{name.replace('.', '] ')}" for name in SECRETS)
            problem = "is not a key of this file" if goal is None else "is not a text"
            raise ConfigError("use the secrets", path, f"{key} {problem}", f"Allowed, as texts: {allowed}")
        _set(data, goal, value)
        origins[goal] = f"{path}:{key}"


def _overlay_environment(
    data: dict[str, Any], origins: dict[str, str], names: Mapping[str, str], environ: Mapping[str, str]
) -> None:
    for variable, key in names.items():
        if value := environ.get(variable):
            _set(data, key, value)
            origins[key] = variable


def leaves(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every value that is not a table, with its dotted key: `sync.batch_size`, `tables[0].name`."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{prefix}[{index}]")
    else:
        yield prefix, value


def _get(data: Mapping[str, Any], key: str) -> object:
    found: object = data
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _set(data: dict[str, Any], key: str, value: object) -> None:
    *sections, name = key.split(".")
    table: object = data
    for section in sections:
        table = table.setdefault(section, {}) if isinstance(table, dict) else None
    if isinstance(table, dict):  # else the model says that it must be a table
        table[name] = value
