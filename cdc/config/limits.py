"""What may the replicator use at most, and from where on is a person told? [limits], [audit], [alerts]."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cdc.config.kinds import Section


class LimitsConfig(Section):
    """What the replicator may use and send at most; 0: no limit."""

    max_bytes_per_second: Annotated[int, Field(ge=0)] = 50_000_000
    """As sent to the target, so compressed if it is; over all tables."""
    max_rows_per_second: Annotated[int, Field(ge=0)] = 0
    max_connections_per_second: Annotated[int, Field(ge=0)] = 100
    """New connections to the target."""
    max_memory_mb: Annotated[int, Field(ge=0)] = 2048
    """80 % of it are for the process with the rows that wait to be delivered, of which reading waits for more
    room. They always have an eighth: what the tables themselves take, some 2 MB each, no wait makes less."""


class AuditConfig(Section):
    """How source and target are compared while nobody asks for it."""

    enabled: bool = True
    interval_hours: Annotated[float, Field(gt=0, le=24 * 366)] = 24.0
    """Each table is compared once in this time, and once after each start."""
    cpu_percent: Annotated[float, Field(ge=0.1, le=100)] = 2.0
    """Of a core, on average while a table is compared."""


class SpoolConfig(Section):
    """Where rows wait that are read while the target is away."""

    enabled: bool = True
    """Go on reading then, so that updates, deletions and pruned rows are seen; false: reading stops."""
    max_mb: Annotated[int, Field(ge=1, le=1 << 20)] = 512
    """What may wait in the state store, compressed; reading stops when that is full."""


class AlertsConfig(Section):
    """From where on a person is told; what is above (or, for success, below) raises an alert."""

    latency_ms: Annotated[float, Field(gt=0)] = 100.0
    """From noticing a change to its acknowledgement, for 5 seconds."""
    failed_rows: Annotated[int, Field(ge=0)] = 10
    """Of one table; they are then also tried again at once."""
    failed_attempts: Annotated[int, Field(ge=1)] = 10
    """Of one failed row."""
    success_percent: Annotated[float, Field(ge=0, le=100)] = 95.0
    """Of the last 100 attempts to deliver."""
    memory_percent: Annotated[float, Field(gt=0, le=100)] = 80.0
    """Of what limits.max_memory_mb leaves to rows that wait."""
    rows_per_second: Annotated[float, Field(ge=0)] = 200.0
    """Delivered, for 5 seconds; 0: never."""
    round_trip_ms: Annotated[float, Field(gt=0)] = 500.0
    """Of a ping to the target."""
    standstill_sec: Annotated[float, Field(gt=0)] = 5.0
    """For which the target has not taken what it was sent."""
    free_disk_mb: Annotated[int, Field(ge=0)] = 500
    """Where the state directory is."""
