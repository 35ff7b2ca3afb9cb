"""What systemd is told: that the supervisor is ready, still alive, or stopping.

The protocol is sd_notify(3): datagrams of `KEY=value` lines to the Unix socket that NOTIFY_SOCKET names; a
leading @ stands for the abstract namespace; sd_watchdog_enabled(3) has the watchdog's.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

from cdc.clock import Clock, SystemClock

logger = logging.getLogger(__name__)


class Systemd:
    """Says nothing at all where no service manager listens. Never raises, never blocks for long."""

    def __init__(self, address: str | None, watchdog_seconds: float | None, clock: Clock) -> None:
        self._address = address
        self._every = None if watchdog_seconds is None else watchdog_seconds / 3
        self._clock = clock
        self._told_at = float("-inf")

    def __repr__(self) -> str:
        return f"Systemd({self._address!r}, watchdog every {self._every} s)"

    def ready(self) -> None:
        self._say(f"READY=1\nMAINPID={os.getpid()}\nSTATUS=supervising")

    def alive(self) -> None:
        """Called as often as the loop turns; told three times in each watchdog period."""
        now = self._clock.monotonic()
        if self._every is not None and now - self._told_at >= self._every:
            self._told_at = now
            self._say("WATCHDOG=1")

    def stopping(self) -> None:
        self._say("STOPPING=1\nSTATUS=stopping the programs")

    def _say(self, message: str) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(1.0)
                sender.sendto(message.encode(), address)
        except OSError as error:
            logger.warning("the service manager could not be told %r: %s", message.split("\n")[0], error)


def systemd_from(environ: Mapping[str, str], clock: Clock | None = None) -> Systemd:
    """What this process's environment says of its service manager."""
    watchdog = None
    if environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
        microseconds = environ.get("WATCHDOG_USEC", "")
        watchdog = int(microseconds) / 1e6 if microseconds.isdecimal() else None
    return Systemd(environ.get("NOTIFY_SOCKET") or None, watchdog, clock or SystemClock())
