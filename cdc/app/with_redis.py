"""What of Redis does a replicator use? Imported only where there is one: its client takes half a second."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from cdc.config import Settings
from cdc.config.redis import RedisOptions
from cdc.observe.metrics import Metrics
from cdc.observe.redis_events import RedisEvents
from cdc.observe.status import Status
from cdc.redis_copy import CopiedTarget, RedisCopy
from cdc.replicator.ports import Target
from cdc.state.redis_lease import RedisLease


def lease_of(settings: Settings, source: str) -> RedisLease | None:
    """The lease of the source for several hosts; None where the configuration asks for none."""
    options = settings.redis.options
    if options is None or not settings.redis.lease:
        return None
    return RedisLease(options, source, seconds=settings.redis.lease_sec)


def copied_to_redis(
    target: Target,
    settings: Settings,
    options: RedisOptions,
    source: str,
    status: Callable[[], Status],
    metrics: Metrics,
    stack: ExitStack,
    lease_number: int | None,
) -> CopiedTarget:
    """`target`, of which a copy is kept in Redis until `stack` ends, by the holder of `lease_number`."""
    copy = RedisCopy(
        options,
        source,
        lambda: status().model_dump(mode="json"),
        RedisEvents(metrics.registry),
        lease_number=lease_number,
        row_ttl_seconds=settings.redis.row_ttl_sec,
    )
    return CopiedTarget(target, stack.enter_context(copy).offer)
