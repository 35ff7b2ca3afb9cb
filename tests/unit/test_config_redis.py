"""[redis]: optional, its password a secret, its bounds checked. [R11, S1, S7]"""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc.config import Settings, load, secrets_of
from cdc.errors import ConfigError

LEAST = '[database]\npath = "t.duckdb"\n[sync]\nclickhouse_endpoint = "http://localhost"\n'
SECRET = "hush-hush"


def loaded(directory: Path, redis: str, secrets: str | None = None, **environ: str) -> Settings:
    path = directory / "c.toml"
    path.write_text(LEAST + redis)
    if secrets is not None:
        (directory / "secrets.toml").write_text(secrets)
        (directory / "secrets.toml").chmod(0o600)
    return load(path, environ)


def test_without_a_url_there_is_no_redis(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").redis.options is None


def test_the_password_comes_from_the_secrets_and_the_environment_and_is_not_shown(tmp_path: Path) -> None:
    redis = '[redis]\nurl = "rediss://user@localhost:6380/2"\nca_file = "ca.pem"\n'
    settings = loaded(tmp_path, redis, f'[auth]\nredis_password = "{SECRET}"\n')
    options = settings.redis.options
    assert options is not None
    assert (options.password, options.ca_file, options.prefix) == (SECRET, Path("ca.pem"), "cdc")
    assert SECRET not in f"{settings!r} {options!r} {options}"
    assert SECRET in secrets_of(settings)
    settings = loaded(tmp_path, redis, REDIS_PASSWORD="other")
    assert settings.redis.options is not None
    assert settings.redis.options.password == "other"


@pytest.mark.parametrize(
    ("redis", "problem"),
    [
        (f'password = "{SECRET}"', "redis.password is a secret"),
        (f'url = "redis://:{SECRET}@h"', "a password may not stand in it"),
        ('url = "http://h"', "not the URL of a Redis"),
        ('url = "redis://h"\nca_file = "ca.pem"', "write rediss://"),
        ('url = "rediss://h"\ncert_file = "c.pem"', "cert_file and key_file belong together"),
        ("lease = true", "lease = true needs a url"),
        ('prefix = "a b"', "redis.prefix"),
        ("ttl = 5", "redis.ttl is not a key"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_key(tmp_path: Path, redis: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"[redis]\n{redis}\n")
    assert problem in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("completion", "problem"),
    [
        ('group = "o"', "completion.condition is missing"),
        ('group = "o"\ncondition = ""', "completion.condition"),
        ('group = "o"\ncondition = "bool_or(d)"\nmax_age_sec = 0', "completion.max_age_sec"),
        ('group = "o"\ncondition = "bool_or(d)"\nmax_age = 5', "did you mean max_age_sec?"),
    ],
)
def test_a_completion_rule_is_checked_too(tmp_path: Path, completion: str, problem: str) -> None:  # [F8]
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f'[[tables]]\nname = "t"\n[tables.completion]\n{completion}\n')
    assert problem in str(caught.value)
