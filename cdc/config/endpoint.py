"""Where a target is: one URL, parsed once, its password kept out of every text.

clickhouse://user@host:9000/db      native TCP        clickhouses://…:9440   native TCP over TLS
http://host:8123/db                 HTTP              https://host:8443/db   HTTP over TLS
chdb:///path/to/directory           the engine embedded in this process
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from cdc.errors import ConfigError

Kind = Literal["native", "http", "embedded"]

_SCHEMES: dict[str, tuple[Kind, bool, int]] = {
    "clickhouse": ("native", False, 9000),
    "clickhouses": ("native", True, 9440),
    "http": ("http", False, 8123),
    "https": ("http", True, 8443),
    "chdb": ("embedded", False, 0),
}

_NOT_A_URL = "its host or port is not valid, or a password in it is not percent-encoded"


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to a target: the authority to trust, and for mutual TLS the client's certificate and key."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: SecretStr | None = None
    """Of an encrypted key."""
    verify: bool = True
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place a target can be reached. `str` and `repr` never show the password."""

    kind: Kind
    host: str
    port: int
    database: str | None = None
    user: str = "default"
    password: SecretStr = field(default_factory=lambda: SecretStr(""))
    secure: bool = False
    path: Path | None = None
    """Directory of the embedded engine; None for the others."""
    tls: Tls = field(default_factory=Tls)

    def __str__(self) -> str:
        if self.kind == "embedded":
            return f"chdb://{self.path}"
        scheme = next(
            name for name, (kind, secure, _) in _SCHEMES.items() if (kind, secure) == (self.kind, self.secure)
        )
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}" + (f"/{self.database}" if self.database else "")


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays within this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_endpoint(url: str) -> Endpoint:
    """The endpoint that `url` names.

    Raises:
        ConfigError: if the scheme, host, port or path is missing or wrong; the password is never quoted.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text quotes the URL, password and all
        raise _refuse("an endpoint URL", _NOT_A_URL) from None
    shown = f"{parts.scheme}://{parts.hostname or ''}"
    if parts.scheme not in _SCHEMES:
        raise _refuse(shown, f"unknown scheme {parts.scheme!r}")
    kind, secure, default_port = _SCHEMES[parts.scheme]
    if kind != "embedded" and "@" in parts.path + parts.query + parts.fragment:
        raise _refuse("an endpoint URL", _NOT_A_URL)  # a "/" in the password ended the host early
    if parts.query or parts.fragment:
        raise _refuse(shown, "an endpoint takes no ?options; they belong in [target]")
    if kind == "embedded":
        return _embedded(shown, unquote(parts.netloc), unquote(parts.path))
    if not parts.hostname:
        raise _refuse(shown, "no host")
    database = unquote(parts.path).strip("/")
    if "/" in database:
        raise _refuse(shown, f"{database!r} is not a database name")
    return Endpoint(
        kind=kind,
        host=parts.hostname,
        port=port or default_port,
        database=database or None,
        user=unquote(parts.username or "default"),
        password=SecretStr(unquote(parts.password or "")),
        secure=secure,
    )


def _embedded(shown: str, netloc: str, path: str) -> Endpoint:
    if netloc:
        raise _refuse(shown, "the embedded engine takes a path, with three slashes")
    if len(path) < 2:
        raise _refuse(shown, "no directory")
    windows = len(path) > 2 and path[2] == ":"  # chdb:///C:/data
    return Endpoint(kind="embedded", host="", port=0, path=Path(path[1:] if windows else path))


def _refuse(subject: str, problem: str) -> ConfigError:
    return ConfigError(
        "use the endpoint",
        subject,
        problem,
        "Write clickhouse://user@host:9000/db, clickhouses://host:9440/db, http(s)://host:8123/db "
        "or chdb:///directory",
    )
