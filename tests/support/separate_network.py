"""A network of its own for one process, joined to this one by a cable that can be cut: packets vanish then.

Linux, as root: a network namespace and a pair of virtual interfaces, both gone with the context.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SeparateNetwork:
    """`host` is this machine's address as seen from within."""

    name: str
    host: str

    @property
    def within(self) -> tuple[str, ...]:
        """The command that starts another one in it."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """Nothing arrives any more, in either direction, and nobody is told."""
        _ip("link", "set", self.name, "down")

    def heal(self) -> None:
        _ip("link", "set", self.name, "up")


@contextmanager
def separate_network() -> Iterator[SeparateNetwork | None]:
    """None where this user may make no network."""
    number = os.getpid() % (1 << 14)
    # Of the addresses that are set apart for measurements between networks, four.
    subnet = f"198.18.{number >> 6}.{number % 64 * 4 + 1}", f"198.18.{number >> 6}.{number % 64 * 4 + 2}"
    network = SeparateNetwork(f"cdc{number}", subnet[0])
    try:
        _ip("netns", "add", network.name)
        _ip("link", "add", network.name, "type", "veth", "peer", "out", "netns", network.name)
        _ip("addr", "add", f"{subnet[0]}/30", "dev", network.name)
        _ip("-n", network.name, "addr", "add", f"{subnet[1]}/30", "dev", "out")
        for link in ("lo", "out"):
            _ip("-n", network.name, "link", "set", link, "up")
        network.heal()
        made = True
    except (OSError, subprocess.CalledProcessError):
        made = False
    try:
        yield network if made else None
    finally:
        for what in (("link", "del", network.name), ("netns", "del", network.name)):
            with suppress(OSError, subprocess.CalledProcessError):
                _ip(*what)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)
