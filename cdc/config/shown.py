"""Every setting, its value and where it came from, fit for eyes: secrets are masked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cdc.config.loading import leaves
from cdc.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting. `value` is what JSON can hold; None means that it is not set."""

    key: str
    value: object
    origin: str


def shown(settings: Settings) -> Iterator[Shown]:
    """The settings in the file's order. An origin is `default`, `FILE:KEY` or a variable's name."""
    values = settings.model_dump(mode="json")  # of a secret: asterisks
    values["sync"]["clickhouse_endpoint"] = [str(endpoint) for endpoint in settings.endpoints]
    for key, value in leaves(values):
        yield Shown(key, value, settings.origins.get(key, "default"))


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """The texts that no log line may show."""
    passwords = [endpoint.password for endpoint in settings.endpoints]
    secrets = (
        settings.target.password,
        settings.redis.password,
        settings.target.client_key_password,
        settings.redis.client_key_password,
        settings.database.encryption_key,
        settings.database.token,
    )
    passwords += [secret for secret in secrets if secret]
    passwords += [value for program in settings.programs.values() for value in program.environment.values()]
    if settings.supervisor.alerts.webhook is not None:
        passwords.append(settings.supervisor.alerts.webhook)
    return tuple({secret.get_secret_value() for secret in passwords if secret.get_secret_value()})
