"""ClickHouse's Native format: blocks of columns, from Arrow arrays and back."""

from cdc.target.native.batch import block_token, encode_batch
from cdc.target.native.block import (
    EncodedColumn,
    NativeBlock,
    decode_block,
    decode_blocks,
    encode_block,
)
from cdc.target.native.reader import Reader

__all__ = [
    "EncodedColumn",
    "NativeBlock",
    "Reader",
    "block_token",
    "decode_block",
    "decode_blocks",
    "encode_batch",
    "encode_block",
]
