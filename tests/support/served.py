"""Writers that serve their database over Quack, and sources that read it from there."""

from __future__ import annotations

import socket
from pathlib import Path

from cdc.source.events import SourceEvents
from cdc.source.served import ServedSource, open_served
from cdc.source.served.reader import Comparing
from tests.support.writers import Writer, interpreter

VERSION = "1.5.5"
"""The newest DuckDB of which PyPI has the extension."""
EXTENSIONS = ("httpfs", "quack")
"""Without the first the handshake of the second fails."""
TOKEN = "a-token-of-the-tests"
AT_ONCE = Comparing(interval_seconds=0.0, percent=100.0)
"""Each read compares a slice."""
NEVER = Comparing(interval_seconds=86_400.0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def extension_file(name: str) -> Path:
    """The file of an extension of the writer's DuckDB."""
    home = interpreter(VERSION, *EXTENSIONS).parents[1]
    [found] = home.glob(f"**/duckdb_extension_{name}/extensions/v{VERSION}/{name}.duckdb_extension")
    return found


class ServedWriter(Writer):
    """A running writer that serves its database at `address`.

    Args:
        chunks: of one response; None: as many as DuckDB takes.
    """

    def __init__(
        self,
        path: Path,
        *,
        port: int | None = None,
        token: str = TOKEN,
        threshold: str = "16MB",
        chunks: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.address = f"quack://127.0.0.1:{self.port}"
        config = {"allow_unsigned_extensions": "true", "checkpoint_threshold": threshold}
        super().__init__(path, VERSION, config, python=interpreter(VERSION, *EXTENSIONS))
        for name in EXTENSIONS:
            self.run(f"LOAD '{extension_file(name)}'")
        if chunks is not None:
            self.run(f"SET GLOBAL quack_fetch_batch_chunks = {chunks}")
        self.run(f"CALL quack_serve('quack:127.0.0.1:{self.port}', token = '{token}')")


def follow(
    writer: ServedWriter,
    *,
    deletes: bool = True,
    events: SourceEvents | None = None,
    comparing: Comparing = AT_ONCE,
    token: str = TOKEN,
) -> ServedSource:
    """What `writer` serves, opened to be read."""
    return open_served(
        writer.address, token, timeout_seconds=10.0, deletes=deletes, events=events, comparing=comparing
    )
