"""Which settings let somebody on the network read a password, or stand in for a server?

Each needs a key that says so, is refused without it, and is told at each start. What stays within this
machine is none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cdc.config.endpoint import is_loopback

if TYPE_CHECKING:
    from cdc.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Loosened:
    """One setting that protects less than it could."""

    section: str
    key: str
    """What allows it, in that section."""
    allowed: bool
    danger: str
    instead: str

    @property
    def problem(self) -> str:
        """What is wrong where it is not allowed, with the line that would allow it."""
        return f"{self.danger}; {self.instead}, or write {self.key} = true into [{self.section}]"


def loosened(settings: Settings) -> Iterator[Loosened]:
    """Every such setting, allowed or not."""
    address = settings.database.address
    if address is not None and not is_loopback(address.host):
        yield _plaintext_token(str(address), settings.database.allow_plaintext_token)
    for endpoint, reader in zip(settings.endpoints, settings.reader_endpoints, strict=True):
        if endpoint.kind == "embedded" or is_loopback(endpoint.host):
            continue
        passwords = (each.password.get_secret_value() for each in (endpoint, reader))
        if not endpoint.secure and any(passwords):
            yield _plaintext("target", str(endpoint), settings.target.allow_plaintext_password, endpoint.kind)
        if endpoint.secure and not settings.target.tls_verify:
            yield _unverified("target", str(endpoint), settings.target.allow_unverified_tls)
    redis = settings.redis
    parts = urlsplit(redis.url or "")
    if parts.hostname is None or is_loopback(parts.hostname):
        return
    shown = f"{parts.scheme}://{parts.hostname}"
    if parts.scheme == "redis" and redis.password is not None and redis.password.get_secret_value():
        yield _plaintext("redis", shown, redis.allow_plaintext_password, "redis")
    if parts.scheme == "rediss" and not redis.tls_verify:
        yield _unverified("redis", shown, redis.allow_unverified_tls)


def _plaintext_token(place: str, allowed: bool) -> Loosened:
    danger = f"the token of {place} and every row are sent in plain text, for everybody on the way to read"
    return Loosened(
        "database", "allow_plaintext_token", allowed, danger, "give a tunnel's end (docs/quack.md)"
    )


def _plaintext(section: str, place: str, allowed: bool, kind: str) -> Loosened:
    secure = {"native": "clickhouses://", "http": "https://", "redis": "rediss://"}[kind]
    danger = f"the password for {place} is sent there in plain text, for everybody on the way to read"
    return Loosened(section, "allow_plaintext_password", allowed, danger, f"use {secure}")


def _unverified(section: str, place: str, allowed: bool) -> Loosened:
    danger = f"{section}.tls_verify = false takes whoever answers for {place}"
    return Loosened(section, "allow_unverified_tls", allowed, danger, "give its authority as ca_file")
