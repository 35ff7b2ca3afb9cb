"""Redis that is killed, frozen, emptied, full: replication never waits for it."""

from __future__ import annotations

from functools import partial

from tests.support.chaos.place import Faults, Place


def faults(place: Place) -> Faults:
    return {
        "Redis killed": partial(place.while_, place.redis.kill, place.redis.start),
        "Redis frozen": partial(_freeze, place),
        "Redis flushed": partial(_flush, place),
        "Redis full": partial(_fill, place),
    }


def _freeze(place: Place) -> None:
    with place.redis.frozen():
        place.pause()
        place.rig.recover()


def _flush(place: Place) -> None:
    with place.redis.client() as client:
        client.flushall()


def _fill(place: Place) -> None:
    with place.redis.client() as client:
        place.while_(partial(client.config_set, "maxmemory", 1), partial(client.config_set, "maxmemory", 0))
