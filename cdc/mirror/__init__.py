"""A copy in Redis of how far each table is and of each row's last state: for others, never needed here."""

from cdc.mirror.mirror import Mirror, MirrorEvents
from cdc.mirror.rows import base_key, read_row, row_key, schema_key
from cdc.mirror.target import MirroredTarget

__all__ = [
    "Mirror",
    "MirrorEvents",
    "MirroredTarget",
    "base_key",
    "read_row",
    "row_key",
    "schema_key",
]
