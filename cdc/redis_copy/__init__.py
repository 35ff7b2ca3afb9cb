"""A copy in Redis of how far each table is and of each row's last state: for others, never needed here."""

from cdc.redis_copy.copy import RedisCopy, RedisCopyEvents
from cdc.redis_copy.rows import base_key, read_row, row_key, schema_key
from cdc.redis_copy.target import CopiedTarget

__all__ = [
    "CopiedTarget",
    "RedisCopy",
    "RedisCopyEvents",
    "base_key",
    "read_row",
    "row_key",
    "schema_key",
]
