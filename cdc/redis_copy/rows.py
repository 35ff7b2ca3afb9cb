"""How does a row's last state stand in Redis? One string per key, readable with its table's schema. [R11]

```
PREFIX:SOURCE:row:TABLE:KEY          16 hex digits: the schema's name; 8 bytes: the row's version, big-endian;
                                     then the row as an Arrow IPC record batch message of one row
PREFIX:SOURCE:schema:TABLE:NAME      the schema as an Arrow IPC message
PREFIX:SOURCE:sync                   a hash: TABLE to the table's object in the status file, as JSON [R14]
PREFIX:SOURCE:replicator             the status file's other keys, and the host, as JSON
PREFIX:SOURCE:lease                  who holds the lease, as JSON; gone when its holder fell silent
PREFIX:SOURCE:lease-number           of its last holder, that grows with each: nobody else's writes are taken
```
A row that was dropped (cdc_redis_dropped_rows_total) has an older state here, or none: the version tells.
KEY is the values of the key columns as a JSON list of texts. Dictionaries are decoded: each row stands alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from cdc.change import Batch, TableId
from cdc.replicator.identity import keys

_NAME = 16


def base_key(prefix: str, source: str) -> str:
    return f"{prefix}:{source}"


def row_key(base: str, table: TableId, key: tuple[str | None, ...]) -> str:
    return f"{base}:row:{table}:{json.dumps(key, ensure_ascii=False)}"


def lease_number_key(base: str) -> str:
    return f"{base}:lease-number"


def schema_key(base: str, table: TableId, name: str) -> str:
    return f"{base}:schema:{table}:{name}"


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a batch, to be written one by one."""

    schema_name: str
    schema: bytes
    rows: pa.RecordBatch
    batch: Batch

    @classmethod
    def of(cls, batch: Batch) -> Rows:
        rows = _plain(batch.rows)
        schema = rows.schema.serialize().to_pybytes()
        return cls(hashlib.blake2b(schema, digest_size=_NAME // 2).hexdigest(), schema, rows, batch)

    def values(self, base: str, start: int, count: int) -> Iterator[tuple[str, bytes | None]]:
        """Key and value of `count` rows from `start`; the value of a deleted row is None."""
        batch, part = self.batch, self.rows.slice(start, count)
        table, name = batch.plan.table, self.schema_name.encode()
        versions = batch.versions.slice(start, count).to_pylist()
        deleted = None if batch.deleted is None else batch.deleted.slice(start, count).to_pylist()
        for index, key in enumerate(keys(part, batch.plan.key)):
            if deleted is not None and deleted[index]:
                yield row_key(base, table, key), None
                continue
            message = part.slice(index, 1).serialize().to_pybytes()
            yield row_key(base, table, key), name + int(versions[index]).to_bytes(8, "big") + message


def read_row(value: bytes, schema: bytes) -> tuple[int, pa.RecordBatch]:
    """The version and the one row of a stored value, with the schema it names.

    Raises:
        pa.ArrowInvalid: it is not a row of this schema.
    """
    version = int.from_bytes(value[_NAME : _NAME + 8], "big")
    read = pa.ipc.read_schema(pa.py_buffer(schema))
    return version, pa.ipc.read_record_batch(pa.py_buffer(value[_NAME + 8 :]), read)


def schema_name(value: bytes) -> str:
    """The name of the schema that a stored value needs."""
    return value[:_NAME].decode()


def _plain(rows: pa.RecordBatch) -> pa.RecordBatch:
    if not any(pa.types.is_dictionary(field.type) for field in rows.schema):
        return rows
    columns = [
        column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
        for column in rows.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)
