"""What does a target need of a connection? One small protocol, and the three ways to have it.

Native TCP, HTTP and the embedded engine send the same encoded block. Every wait has a time-out, and `close`
may be called by another thread to end one at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from cdc.config.endpoint import Endpoint
from cdc.target.options import TargetOptions
from cdc.target.transport.embedded import EmbeddedTransport
from cdc.target.transport.frames import Buffer
from cdc.target.transport.http import HttpTransport
from cdc.target.transport.native import NativeTransport
from cdc.target.types import ColumnCodec
from cdc.target.version import ServerVersion

__all__ = ["Body", "Transport", "new_transport"]


class Body(Protocol):
    """A block of columns, encoded whole before the first byte of it is sent."""

    def body(self, revision: int) -> Sequence[Buffer]:
        """The block in ClickHouse's Native format, in pieces, as a peer of this protocol revision reads it.

        Revision 0 is the format as HTTP and files have it.
        """
        ...


class Transport(Protocol):
    """One connection to one endpoint, used by one thread at a time; `close` by any.

    It connects when it is first used, and again after an error: what failed in the middle is dropped, so the
    next call starts on a clean connection. Every method raises TargetError with its meaning.
    """

    @property
    def endpoint(self) -> Endpoint: ...

    def version(self) -> ServerVersion:
        """The server's release; connects where that has not been done."""
        ...

    def insert(self, sql: str, block: Body, settings: Mapping[str, str]) -> None:
        """Run `INSERT INTO … (columns)` with `block` as its data; returns once the server acknowledged it."""
        ...

    def query(self, sql: str, codecs: Sequence[ColumnCodec]) -> Iterator[pa.RecordBatch]:
        """The result of a SELECT whose columns are those of `codecs`, by name and type and in order."""
        ...

    def execute(self, sql: str) -> None:
        """Run a statement that returns nothing."""
        ...

    def ping(self) -> float:
        """The round-trip time in seconds."""
        ...

    def close(self) -> None: ...


def new_transport(endpoint: Endpoint, options: TargetOptions, database: str = "") -> Transport:
    """The way to `endpoint` that its kind asks for; nothing is connected yet.

    `database` is where names without one are looked up; it must exist. Our own statements name theirs.
    """
    match endpoint.kind:
        case "native":
            return NativeTransport(endpoint, options, database)
        case "http":
            return HttpTransport(endpoint, options, database)
        case "embedded":
            return EmbeddedTransport(endpoint, options, database)
