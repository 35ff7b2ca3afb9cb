"""ClickHouse that is killed, frozen, restarted."""

from __future__ import annotations

from functools import partial

from tests.support.chaos.place import Faults, Place


def faults(place: Place) -> Faults:
    return {
        "ClickHouse killed": partial(place.while_, place.server.kill, place.server.start),
        "ClickHouse frozen": partial(_freeze, place),
        "ClickHouse restarted": place.server.restart,
    }


def _freeze(place: Place) -> None:
    with place.server.frozen():
        place.pause()
