"""How are Arrow rows kept as bytes? As an IPC stream, in the state store and in the spool."""

from __future__ import annotations

import pyarrow as pa


def pack_rows(rows: pa.RecordBatch, options: pa.ipc.IpcWriteOptions | None = None) -> bytes:
    """`rows` as an Arrow IPC stream of one record batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=options) as writer:
        writer.write_batch(rows)
    return bytes(sink.getvalue().to_pybytes())
