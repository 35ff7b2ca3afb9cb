"""How are strings, bytes and documents held? All as String, which holds any bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from cdc.target.native.strings import decode_strings, encode_strings
from cdc.target.types.codec import Buffer, Codec

if TYPE_CHECKING:
    from cdc.target.native.reader import Reader
    from cdc.target.version import ServerVersion

_RULES: dict[str, tuple[pa.DataType, str]] = {
    "VARCHAR": (pa.string(), ""),
    "BLOB": (pa.binary(), "the bytes"),
    "JSON": (pa.json_(), "the document's text, unchanged; ClickHouse's JSON type would rewrite it"),
    "GEOMETRY": (pa.binary(), "well-known binary, as readWKB… reads it"),
}

NAMES = tuple(_RULES)


class Text(Codec):
    """A String."""

    clickhouse_type = "String"

    def __init__(self, name: str) -> None:
        self.arrow_type, self.note = _RULES[name]

    def encode(self, array: pa.Array) -> list[Buffer]:
        return [encode_strings(array)]

    def decode(self, reader: Reader, rows: int) -> pa.Array:
        if not isinstance(self.arrow_type, pa.BaseExtensionType):
            return decode_strings(reader, rows, self.arrow_type)
        return decode_strings(reader, rows, self.arrow_type.storage_type)


def codec(name: str, server: ServerVersion) -> Codec:  # noqa: ARG001
    """The codec of the DuckDB type `name`, one of `NAMES`."""
    return Text(name)
