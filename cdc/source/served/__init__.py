"""A database that its own writer serves over DuckDB's protocol Quack, read in small pages."""

from __future__ import annotations

from cdc.source.served.database import ServedSnapshot, ServedSource, open_served
from cdc.source.served.reader import Comparing

__all__ = ["Comparing", "ServedSnapshot", "ServedSource", "open_served"]
