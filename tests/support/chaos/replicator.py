"""A replicator that is killed or stopped anywhere, that is not alone, and that has no room for its state."""

from __future__ import annotations

import time
from functools import partial

import psutil

from cdc.errors import ExitCode
from tests.support.chaos.place import LONGEST_SECONDS, Faults, Place
from tests.support.dying import STEPS
from tests.support.waiting import wait_until

START_SECONDS = 60.0
LOG_BYTES = 1 << 16
"""Room that is left for the log, which is to go on telling."""


def faults(place: Place) -> Faults:
    return {
        "replicator killed": partial(_kill, place),
        "replicator stopped": partial(_stop, place),
        "replicator killed at a step": partial(_die, place, "KILL"),
        "replicator stopped at a step": partial(_die, place, "TERM"),
        "replicator killed in a commit": partial(_die_at, place, "in commit", "KILL"),
        "second replicator": partial(_second, place),
        "replicator killed, a standby there": partial(_standby, place),
        "state disk full": partial(_fill_disk, place),
    }


def _kill(place: Place) -> None:
    place.rig.replica.kill()
    place.replicate()


def _stop(place: Place) -> None:
    code = place.rig.replica.stop()
    assert code == 0, f"the replicator stopped with {code}: {place.rig.replica.messages()[-1:]}"
    place.replicate()


def _die(place: Place, by: str) -> None:
    _die_at(place, place.random.choice(STEPS), by)


def _die_at(place: Place, step: str, by: str) -> None:
    place.rig.replica.die(step, by)
    place.replicate()


def _second(place: Place) -> None:
    """It is refused, names the first, and harms nothing."""
    first = place.rig.replica
    second = place.rig.another()
    with second:
        assert second.wait(START_SECONDS) == ExitCode.HELD.value, second.messages()
        assert f"held by process {first.process.pid}" in second.messages()[-1]


def _standby(place: Place) -> None:
    first = place.rig.replica
    place.replicate()
    wait_until(lambda: "standing by" in place.rig.replica.log, "the standby to stand by", START_SECONDS)
    first.kill()


def _fill_disk(place: Place) -> None:
    """No file of it may grow past what its log needs; then there is room again."""
    process = psutil.Process(place.rig.replica.process.pid)
    limit = len(place.rig.replica.log) + LOG_BYTES
    process.rlimit(psutil.RLIMIT_FSIZE, (limit, psutil.RLIM_INFINITY))
    until = time.monotonic() + LONGEST_SECONDS
    try:
        while time.monotonic() < until and not any("state store" in each for each in place.rig.trouble()):
            time.sleep(0.1)
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
