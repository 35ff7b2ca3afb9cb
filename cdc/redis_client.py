"""How is Redis reached? One client with timeouts, retries and TLS, made from one value."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from cdc.config.redis import RedisOptions, check_url, refuse
from cdc.errors import CdcError, Meaning

RETRIES = 1
"""Of one command, on a fresh connection: an idle one may have been closed meanwhile. Longer trouble is for
whoever calls, who knows what can wait."""


FAILURES = (
    redis.RedisError,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    RecursionError,
)
"""What redis-py raises where Redis does not answer, refuses, or answers what no Redis does: a greeting that
is no map, texts that are not UTF-8."""


class Overtaken(redis.ResponseError):
    """Redis has not taken what was written: another replicator has the lease, or had it meanwhile."""


def connect(options: RedisOptions) -> redis.Redis[bytes]:
    """A client for any number of threads; nothing is connected before its first command.

    Raises:
        ConfigError: the URL is wrong, or a TLS file cannot be read.
    """
    check_url(options.url)
    parts = urlsplit(options.url)
    secure: dict[str, Any] = {}
    if parts.scheme == "rediss":
        for file in (options.ca_file, options.cert_file, options.key_file):
            if file is not None and not file.is_file():
                raise refuse(str(file), "there is no such file")
        secure = {
            "ssl": True,
            "ssl_ca_certs": _text(options.ca_file),
            "ssl_certfile": _text(options.cert_file),
            "ssl_keyfile": _text(options.key_file),
            "ssl_password": options.key_password,  # without one too: OpenSSL would ask on the terminal
            "ssl_cert_reqs": "required" if options.verify else "none",
            "ssl_check_hostname": options.verify,
        }
    return redis.Redis(
        host=parts.hostname or "",
        port=parts.port or 6379,
        db=int(parts.path.strip("/") or 0),
        username=unquote(parts.username) if parts.username else None,
        password=options.password or None,
        socket_timeout=options.timeout_seconds,
        socket_connect_timeout=options.timeout_seconds,
        socket_keepalive=True,
        retry=Retry(ExponentialBackoff(cap=0.1, base=0.05), RETRIES),
        client_name="cdc",
        **secure,
    )


def away(options: RedisOptions, error: Exception) -> CdcError:
    """What an error of Redis means to a person: that it is away, or why it refuses."""
    said, _, _ = " ".join(str(error).split()).partition(" script: ")  # where in it is nobody's concern
    problem = said.rstrip(".") or type(error).__name__
    if isinstance(error, redis.AuthenticationError):
        remedy = "Put the right password into secrets.toml, [auth] redis_password, or into REDIS_PASSWORD"
    elif isinstance(error, Overtaken):
        remedy = "Leave the work to the other replicator; where there is none, this one has it again soon"
    elif isinstance(error, redis.ResponseError):
        remedy = "Give Redis more memory (maxmemory), or this user the right to write its keys"
    else:
        remedy = "Start Redis, or correct [redis]; nothing is lost without it"
    return CdcError("use Redis", options, problem, remedy, meaning=Meaning.RETRY)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
