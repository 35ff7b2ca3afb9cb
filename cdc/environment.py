"""Which of the variables of this process may a program have that it starts? All but the secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping

SECRETS = frozenset({"CLICKHOUSE_PASSWORD", "REDIS_PASSWORD", "DUCKDB_ENCRYPTION_KEY"})
"""What the product reads credentials from. A program that needs one is given it in [programs.NAME]
environment; the product's own replicator has them all."""


def without_secrets(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """`environ`, or that of this process, without `SECRETS`; Windows does not tell upper from lower case."""
    given = os.environ if environ is None else environ
    return {name: value for name, value in given.items() if name.upper() not in SECRETS}
