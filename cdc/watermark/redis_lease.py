"""Who the one active replicator of a source is, among several hosts: a key in Redis with a time to live. [R8]

It is held beside the lease of `cdc.watermark.lease`, not instead of it. The key is renewed three times within
its life; when its holder is gone it expires, and a standby takes it. Redis is not asked before each insert,
and losing Redis does not stop a holder: it goes on until it sees that another has the key. Two may therefore
be active while the network between them is cut; what then keeps the data right is that the target is
idempotent, and that of two on one store the older cannot commit (its epoch).
"""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import suppress
from dataclasses import asdict
from typing import Self

import redis
import structlog

from cdc.clock import Clock, SystemClock
from cdc.config.redis import RedisOptions
from cdc.errors import LeaseHeld, StateError
from cdc.redis_client import away, connect
from cdc.watermark.lease import STANDBY_SECONDS, Owner

RENEWALS = 3
"""Within the key's life: two may fail."""

_TAKE = """
local held = redis.call('get', KEYS[1])
if held == ARGV[1] then
  redis.call('pexpire', KEYS[1], ARGV[2])
  return false
end
if held then
  return held
end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
"""Take or renew in one step: false, or the note of whoever has it. A holder whose key is gone, for Redis was
emptied, has it again."""
_RELEASE = """
if redis.call('get', KEYS[1]) == ARGV[1] then
  redis.call('del', KEYS[1])
end
"""


class RedisLease:
    """The lease of one source in Redis. A context manager; used by one process."""

    def __init__(
        self, options: RedisOptions, source: str, *, seconds: float = 6.0, clock: Clock | None = None
    ) -> None:
        """
        Raises:
            ConfigError: the options are wrong.
        """
        self.source = source
        self._options = options
        self._client = connect(options)
        self._key = f"{options.prefix}:{source}:lease"
        self._seconds = seconds
        self._clock = clock or SystemClock()
        self._note = ""
        self._held = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"RedisLease({self._options}, {self._key}, {'held' if self.held else 'not held'})"

    @property
    def held(self) -> bool:
        """Whether it was taken and, as far as is known, by nobody else since."""
        return self._held

    def acquire(self) -> None:
        """Take the lease, or say who has it.

        Raises:
            LeaseHeld: another replicator has it.
            StateError: Redis does not answer: nobody could tell.
        """
        try:
            other = self._take()
        except (redis.RedisError, OSError) as error:
            reason = away(self._options, error)
            raise StateError(
                "take the lease in Redis at",
                self._options,
                reason.problem,
                "Start Redis, or set [redis] lease = false where no other host has a standby",
            ) from None
        if other is not None:
            raise _held(self.source, other, "take the lease of the source")

    def standby(self, stop: threading.Event) -> bool:
        """Wait for the lease until it is taken (True) or `stop` is set (False). Redis may come later."""
        while True:
            try:
                if self._take() is None:
                    return True
            except (redis.RedisError, OSError) as error:
                structlog.get_logger("cdc.lease").warning(
                    "waiting for Redis", error=str(away(self._options, error))
                )
            if self._clock.wait(stop, STANDBY_SECONDS):
                return False

    def release(self) -> None:
        """Give the lease up, so that a standby need not wait for it to expire."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(4 * self._options.timeout_seconds)
        if self._held:
            self._held = False
            with suppress(redis.RedisError, OSError):  # else it expires
                self._client.execute_command("EVAL", _RELEASE, 1, self._key, self._note)
        self._client.close()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _take(self) -> str | None:
        """Take it and keep renewing it; the note of whoever has it instead."""
        note = asdict(Owner.of_this_process(self._clock.wall())) | {"token": uuid.uuid4().hex}
        self._note = json.dumps(note)
        other = self._ask()
        if other is None:
            self._held = True
            self._thread = threading.Thread(target=self._renew, name="redis lease", daemon=True)
            self._thread.start()
        return other

    def _ask(self) -> str | None:
        found = self._client.execute_command(
            "EVAL", _TAKE, 1, self._key, self._note, int(self._seconds * 1000)
        )
        return found.decode() if isinstance(found, bytes) else None

    def _renew(self) -> None:
        log, silent = structlog.get_logger("cdc.lease"), False
        while not self._clock.wait(self._ended, self._seconds / RENEWALS):
            try:
                other = self._ask()
            except (redis.RedisError, OSError) as error:
                if not silent:
                    log.warning("lease not renewed, going on", error=str(away(self._options, error)))
                silent = True
                continue
            silent = False
            if other is not None:
                self._held = False
                log.error("lease lost", error=str(_held(self.source, other, "keep the lease of the source")))
                return


def _held(source: str, note: str, operation: str) -> LeaseHeld:
    try:
        found = json.loads(note)
        who = f"process {found['pid']} on {found['host']}"
    except (ValueError, KeyError, TypeError):
        who = "a replicator that has not said which"
    remedy = "Stop that replicator, or leave it to do the work"
    return LeaseHeld(operation, source, f"held in Redis by {who}", remedy)
