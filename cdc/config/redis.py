"""What may [redis] say? It is optional: without `url` nothing is sent to any Redis."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, model_validator

from cdc.config.kinds import Section
from cdc.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """One Redis. `str` and `repr` never show the password."""

    url: str
    """redis://[user@]host[:6379][/0], or rediss:// for TLS; without a password."""
    password: str = field(default="", repr=False)
    prefix: str = "cdc"
    """Of every key."""
    timeout_seconds: float = 1.0
    """To connect, and for each answer."""
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: str = field(default="", repr=False)
    """Of an encrypted key."""
    verify: bool = True

    def __str__(self) -> str:
        return self.url


def check_url(url: str) -> None:
    """Refuse what is not the URL of a Redis.

    Raises:
        ConfigError: the scheme, host, port or database is missing or wrong, or there is a password in it,
            which is never quoted.
    """
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # its text quotes the URL
        parts, valid = urlsplit(""), False
    if parts.password is not None or "@" in parts.path + parts.query + parts.fragment:
        raise refuse("an URL with a password", "a password may not stand in it")
    database = parts.path.strip("/")
    if (
        parts.scheme not in ("redis", "rediss")
        or not valid
        or not (database == "" or database.isdecimal())
        or parts.query
        or parts.fragment
    ):
        raise refuse(f"{parts.scheme}://{parts.hostname or ''}", "it is not the URL of a Redis")


def refuse(subject: str, problem: str) -> ConfigError:
    """The error of a [redis] that cannot be used."""
    remedy = (
        "Write redis://[user@]host[:6379][/0], or rediss:// for TLS; the password belongs in secrets.toml, "
        "[auth] redis_password"
    )
    return ConfigError("use [redis]", subject, problem, remedy)


class RedisConfig(Section):
    """A copy of the state for others to see, and the lease of standbys on other hosts."""

    url: str | None = None
    password: SecretStr | None = None
    """From [auth] redis_password of secrets.toml, or REDIS_PASSWORD."""
    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = "cdc"
    """Of every key."""
    timeout_sec: Annotated[float, Field(gt=0, le=60)] = 1.0
    """To connect, and for each answer. Replication never waits for it."""
    row_ttl_sec: Annotated[int, Field(ge=0, le=31_536_000)] = 3600
    """How long the last state of a row is kept there; 0: not at all."""
    lease: bool = False
    """Take the lease there too, for standbys on other hosts."""
    lease_sec: Annotated[float, Field(ge=1, le=3600)] = 6.0
    """A replicator not heard of for this long has lost it, once another asks for it."""
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    client_key_password: SecretStr | None = None
    """Of an encrypted key; from [auth] redis_client_key_password of secrets.toml."""
    tls_verify: bool = True
    allow_unverified_tls: bool = False
    """With `tls_verify = false`, which takes whoever answers on another host."""
    allow_plaintext_password: bool = False
    """Send the password to another host without TLS."""

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.url is not None:  # here, for the value of a key that is refused by itself would be shown
            try:
                check_url(self.url)
            except ConfigError as error:
                raise ValueError(
                    f"url: {error.problem}; {error.remedy[:1].lower()}{error.remedy[1:]}"
                ) from None
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together; give both or neither")
        if (self.ca_file or self.cert_file) and not (self.url or "").startswith("rediss://"):
            raise ValueError("there are TLS files, but the URL uses no TLS; write rediss://")
        if self.lease and self.url is None:
            raise ValueError("lease = true needs a url")
        return self

    @property
    def options(self) -> RedisOptions | None:
        """How to reach it; None: there is none."""
        if self.url is None:
            return None
        return RedisOptions(
            url=self.url,
            password="" if self.password is None else self.password.get_secret_value(),
            prefix=self.prefix,
            timeout_seconds=self.timeout_sec,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
            key_password="" if (key := self.client_key_password) is None else key.get_secret_value(),
            verify=self.tls_verify,
        )
