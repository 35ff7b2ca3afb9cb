"""A network that cuts, refuses, swallows and delays, and one that loses the one word that matters."""

from __future__ import annotations

from functools import partial

from tests.support.chaos.place import Faults, Place
from tests.support.waiting import wait_until


def faults(place: Place) -> Faults:
    proxy = place.proxy
    return {
        "connection cut": proxy.cut,
        "half-closed": proxy.half_close,
        "insert truncated": partial(_truncate, place),
        "network refuses": partial(place.while_, proxy.refuse, proxy.heal),
        "network silent": partial(place.while_, proxy.blackhole, partial(_unblock, place)),
        "network slow": partial(place.while_, partial(_slow, place), proxy.heal),
        "insert applied, answer lost": partial(_lose, place),
    }


def _truncate(place: Place) -> None:
    place.proxy.truncate(place.random.randrange(4000))
    wait_until(lambda: not place.proxy.truncating, "an insert to be cut", 60.0)


def _slow(place: Place) -> None:
    place.proxy.delay_seconds = place.random.uniform(0.01, 0.7)


def _unblock(place: Place) -> None:
    place.proxy.cut()
    place.proxy.heal()


def _lose(place: Place) -> None:
    place.proxy.lose_answers(place.random.randrange(1, 4))
    wait_until(lambda: not place.proxy.answers_to_lose, "answers to be lost", 60.0)
