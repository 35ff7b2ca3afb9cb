"""Where is the source: a file, or the address at which its writer serves it?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer, PlainValidator, SecretStr

from cdc.config.kinds import PositiveSeconds, Section, names_a_file

SCHEME = "quack://"


@dataclass(frozen=True, slots=True)
class ServedAddress:
    """Where a writer serves its database over DuckDB's protocol Quack."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}{host}:{self.port}"

    @property
    def file_name(self) -> str:
        """What a file is called that belongs to it."""
        return f"quack-{re.sub(r'[^A-Za-z0-9.-]', '-', self.host)}-{self.port}"


def parse_address(text: str) -> ServedAddress:
    """The address that `text` writes.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"quack://(?:\[([0-9A-Fa-f:]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})/?", text)
    port = int(found[3]) if found else 0
    if found is None or not 0 < port < 65536:
        raise ValueError("write quack://host:port; the token belongs in secrets.toml")
    return ServedAddress(found[1] or found[2], port)


def _place(value: object) -> Path | ServedAddress:
    if isinstance(value, ServedAddress):
        return value
    if not isinstance(value, str | Path):
        raise ValueError("write the path of a file, or quack://host:port")
    if str(value).startswith("quack:"):
        return parse_address(str(value))
    return names_a_file(Path(value))


Place = Annotated[Path | ServedAddress, PlainValidator(_place), PlainSerializer(str)]


class DatabaseConfig(Section):
    """The DuckDB database that another process writes."""

    path: Place
    """Its file, or the address at which the writer serves it."""
    read_only: Literal[True] = True
    """The replicator never writes to its source; `false` is refused."""
    encryption_key: SecretStr | None = None
    """From [encryption] master_key of secrets.toml, or DUCKDB_ENCRYPTION_KEY."""
    token: SecretStr | None = None
    """Of a database that is served: from [auth] quack_token of secrets.toml, or DUCKDB_QUACK_TOKEN."""
    allow_plaintext_token: bool = False
    """The token may go to another host, as Quack sends it: in plain text."""

    @property
    def address(self) -> ServedAddress | None:
        """Where it is served; None: it is read from its file."""
        return self.path if isinstance(self.path, ServedAddress) else None

    @property
    def file(self) -> Path | None:
        """The file; None: it is served."""
        return self.path if isinstance(self.path, Path) else None


class ServedConfig(Section):
    """How a database is read that its writer serves."""

    poll_ms: Annotated[float, Field(ge=1, le=60_000)] = 20.0
    """Between two looks while something happens; each is a query for each table."""
    idle_poll_ms: Annotated[float, Field(ge=1, le=60_000)] = 1000.0
    """The same while nothing does. Where the writer's log is on this machine, its growth ends that."""
    request_timeout_sec: PositiveSeconds = 30.0
    """What one query may take."""
    compare_interval_sec: PositiveSeconds = 60.0
    """Between two comparisons of all ranges by digests, which find updates without a version, and
    deletions."""
    compare_percent: Annotated[float, Field(ge=0.1, le=100)] = 5.0
    """Of the time, that the server computes digests at the most."""
