"""How does a batch reach one table? Encoded whole by one thread, sent by another, then acknowledged."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cdc.change import Batch, Encoded
from cdc.errors import TargetError
from cdc.target.ddl import TableDefinition, deduplicates_inserts
from cdc.target.native import NativeBlock, block_token, encode_batch
from cdc.target.route import RoutedConnection
from cdc.target.transport import Transport
from cdc.target.types import ColumnCodec
from cdc.target.version import ServerVersion


class ClickHouseTable:
    """One table over a connection of its own.

    `encode` touches no connection, so it may run beside `send`. What `send` does not promise: an insert that
    failed may have been applied. The same block sent again is one insert to a server that knows tokens, and
    to every server the same rows under FINAL.
    """

    def __init__(
        self,
        definition: TableDefinition,
        codecs: tuple[ColumnCodec, ...],
        connection: RoutedConnection,
        generation: int = 0,
    ) -> None:
        self._definition = definition
        self._codecs = codecs
        self._connection = connection
        self._generation = generation
        self._insert = definition.insert()

    def __repr__(self) -> str:
        return f"ClickHouseTable({self._definition.qualified})"

    def encode(self, batch: Batch) -> Encoded:
        """`batch` as one block; rows that the table's types cannot hold come back as rejected."""
        options = self._definition.options
        block, rejected = encode_batch(
            batch,
            self._codecs,
            version_column=options.version_column,
            deleted_column=options.deleted_column,
        )
        token = block_token(batch, block, self._generation)
        return Encoded(block, block.rows, block.nbytes, token, rejected)

    def send(self, encoded: Encoded) -> None:
        """Insert the block; returns once a server acknowledged it.

        Raises:
            TargetError: with the meaning retry, poison or stop.
        """
        block = encoded.block
        assert isinstance(block, NativeBlock)
        settings = insert_settings(self._connection.version(), encoded.token)

        def insert(transport: Transport) -> None:
            transport.insert(self._insert, block, settings)

        try:
            self._connection.run(insert)
        except TargetError as error:
            subject = f"{self._definition.qualified} at {error.subject}"
            raise TargetError(
                "insert into",
                subject,
                error.problem,
                error.remedy,
                meaning=error.meaning,
                code=error.code,
                relief=error.relief,
            ) from error

    def close(self) -> None:
        """End at once whatever `send` waits for, and the connection."""
        self._connection.close()


_NONE: Mapping[str, str] = MappingProxyType({})


def insert_settings(server: ServerVersion, token: str) -> Mapping[str, str]:
    """What an insert asks of a server of this release.

    From 26.2 inserts are asynchronous by default: a server then acknowledges what it holds in memory only.
    """
    if not deduplicates_inserts(server):
        return _NONE
    return {"async_insert": "0", "insert_deduplicate": "1", "insert_deduplication_token": token}
