"""The ClickHouse side: encodes batches as native blocks, delivers them, and keeps tables as the plans ask."""

from __future__ import annotations

from cdc.target.clickhouse import ClickHouseTarget, open_target
from cdc.target.native import NativeBlock, decode_block, encode_block
from cdc.target.options import Compression, TargetOptions, Timeouts
from cdc.target.schema import Difference
from cdc.target.table import ClickHouseTable
from cdc.target.types import ColumnCodec, column_codec
from cdc.target.version import ServerVersion

__all__ = [
    "ClickHouseTable",
    "ClickHouseTarget",
    "ColumnCodec",
    "Compression",
    "Difference",
    "NativeBlock",
    "ServerVersion",
    "TargetOptions",
    "Timeouts",
    "column_codec",
    "decode_block",
    "encode_block",
    "open_target",
]
