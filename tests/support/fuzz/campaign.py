"""How long, with which inputs, and what came of them? One target at a time, from one seed."""

from __future__ import annotations

import contextlib
import random
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field

from tests.support.fuzz.targets import Target

MOST_SECONDS = 10.0
"""For one input, on a machine that others use too."""
MOST_BYTES = 64 << 20
_EDGES = (0, 1, 0x7F, 0x80, 0xFF)
_NUMBERS = tuple(n.to_bytes(8, "little") for n in (0, 1, 1 << 31, 1 << 60, (1 << 63) - 1, (1 << 64) - 1))


@dataclass
class Figures:
    """What came of a target's inputs."""

    inputs: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Inputs by the exception they were refused with, all declared."""
    seconds: float = 0.0
    """The longest that one took."""
    bytes: int = 0
    """The most memory that Python had for one."""


class Undeclared(AssertionError):
    """An input that ends in another way than declared."""


def fuzz(target: Target, seconds: float, seed: int, *, most_inputs: int | None = None) -> Figures:
    """Give the target inputs for so long.

    Raises:
        Undeclared: with the seed and the number of the input, and the input itself.
    """
    found = Figures()
    chance = random.Random(f"{seed} {target.name}")
    with contextlib.suppress(*target.declared):
        target.run(target.seeds[0])  # what it imports at first is not its first input's time and memory
    end = time.monotonic() + seconds
    tracemalloc.start()
    try:
        while time.monotonic() < end and (most_inputs is None or found.inputs < most_inputs):
            _one(target, mutated(chance.choice(target.seeds), chance), found, seed)
    finally:
        tracemalloc.stop()
    return found


def _one(target: Target, data: bytes, found: Figures, seed: int) -> None:
    where = f"{target.name}, seed {seed}, input {found.inputs}: {data[:200]!r}… ({len(data)} bytes)"
    tracemalloc.reset_peak()
    before, began = tracemalloc.get_traced_memory()[0], time.monotonic()
    try:
        target.run(data)
    except target.declared as error:
        found.refused[type(error).__name__] += 1
    except Exception as error:
        raise Undeclared(f"{type(error).__name__}: {error}; {where}") from error
    took, peak = time.monotonic() - began, tracemalloc.get_traced_memory()[1] - before
    found.inputs += 1
    found.seconds, found.bytes = max(found.seconds, took), max(found.bytes, peak)
    if took > MOST_SECONDS or peak > MOST_BYTES:
        raise Undeclared(f"{took:.1f} s, {peak >> 20} MB; {where}")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """`data` with a few changes: bytes, numbers at the edges, pieces left out, repeated, or put elsewhere."""
    raw = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(raw) + 1)
        size = min(len(raw) - at, 1 << chance.randrange(12))
        match chance.randrange(8):
            case 0:
                raw[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                raw[at : at + 1] = bytes([chance.choice(_EDGES)])
            case 2:
                raw[at : at + 8] = chance.choice(_NUMBERS)
            case 3:
                del raw[at : at + size]
            case 4:
                raw[at:at] = raw[at : at + size]
            case 5:
                raw[at:at] = bytes([chance.choice(_EDGES)]) * size
            case 6:
                del raw[at:]
            case 7:
                raw[at : at + size] = chance.randbytes(size)
    return bytes(raw)
