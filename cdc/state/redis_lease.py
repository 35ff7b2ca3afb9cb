"""Who the one active replicator of a source is, among several hosts: a key in Redis with a time to live. [R8]

It is held beside the lease of `cdc.state.lease`, not instead of it. The key is renewed three times within
its life; when its holder is gone it expires, and a standby takes it. With each taking goes a number that only
grows, and outlives the key: what a holder writes to Redis is refused there once the number is another's.

No clock but this host's own is trusted. For as long as the key must live, counted from before the renewal was
sent, nobody else can have it, and Redis is not asked. After that (the process was stopped, the host asleep,
Redis away) Redis is asked before an insert begins or a mark is stored. If another has the key, that is the
end. If Redis does not answer, the holder goes on: losing Redis stops nobody. Two may then be active while the
network between them is cut; what keeps the data right is that the target is idempotent, that each has marks
of its own, and that of two on one store the older cannot commit (its epoch).
"""

from __future__ import annotations

import json
import math
import threading
import uuid
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Self

import redis
import structlog

from cdc.clock import Clock, SystemClock
from cdc.config.redis import RedisOptions
from cdc.errors import LeaseHeld, StateError
from cdc.redis_client import FAILURES, away, connect
from cdc.state.lease import STANDBY_SECONDS, Owner

RENEWALS = 3
"""Within the key's life: two may fail."""
LONGEST_ASKS = 4
"""Time-outs that one request may take: to connect and for the answer, and both once more."""

_Moment = tuple[float, float]
"""By the monotonic and by the wall clock."""

_TAKE = """
local held = redis.call('get', KEYS[1])
if held and held ~= ARGV[1] then
  return held
end
local number = redis.call('get', KEYS[2])
if ARGV[3] == '' then
  if not number then
    redis.call('set', KEYS[2], redis.call('time')[1])
  end
  number = redis.call('incr', KEYS[2])
elseif not number then
  number = ARGV[3]
  redis.call('set', KEYS[2], number)
elseif number ~= ARGV[3] then
  return ''
end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
return tonumber(number)
"""
"""Take, or renew what has the number ARGV[3], in one step: the number, or the note of whoever has it, which
is empty when somebody had it and is gone. A holder whose key expired and was not taken, or of which Redis
lost everything, has it again. The first number is the time in seconds: it grows also past such a loss."""
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
        self._asking = threading.Lock()
        self._confirmed: _Moment | None = None
        self._unanswered: _Moment | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.number: int | None = None
        """Which holder this is; None before it was one."""

    def __repr__(self) -> str:
        return f"RedisLease({self._options}, {self._key}, {'held' if self._held else 'not held'})"

    @property
    def held(self) -> bool:
        """Whether an insert may begin, or a mark be stored; Redis may be asked, see the module."""
        if self._held and self._doubtful():
            with self._asking:
                if self._held and self._doubtful():
                    self._renew()
        return self._held

    def acquire(self) -> None:
        """Take the lease, or say who has it.

        Raises:
            LeaseHeld: another replicator has it.
            StateError: Redis does not answer: nobody could tell.
        """
        try:
            other = self._take()
        except FAILURES as error:
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
            except FAILURES as error:
                _log().warning("waiting for Redis", error=str(away(self._options, error)))
            if self._clock.wait(stop, STANDBY_SECONDS):
                return False

    def release(self) -> None:
        """Give the lease up, so that a standby need not wait for it to expire."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(LONGEST_ASKS * self._options.timeout_seconds)
        if self._held:
            self._held = False
            with suppress(*FAILURES):  # else it expires
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
        self._note, self.number = json.dumps(note), None
        with self._asking:
            other = self._ask()
            if other is None:
                self._held = True
        if other is None:
            self._thread = threading.Thread(target=self._keep, name="redis lease", daemon=True)
            self._thread.start()
        return other

    def _ask(self) -> str | None:
        """Take or renew it: None, or the note of whoever has it."""
        asked = self._now()
        keys = (self._key, f"{self._key}-number")
        number = "" if self.number is None else str(self.number)
        try:
            found = self._client.execute_command(
                "EVAL", _TAKE, len(keys), *keys, self._note, int(self._seconds * 1000), number
            )
        except FAILURES:
            self._unanswered = asked
            raise
        if isinstance(found, bytes):
            return found.decode(errors="replace")
        if not isinstance(found, int):
            raise redis.ResponseError("the answer is no lease's")
        self.number, self._confirmed, self._unanswered = int(found), asked, None
        return None

    def _keep(self) -> None:
        while self._held and not self._clock.wait(self._ended, self._seconds / RENEWALS):
            with self._asking:
                if self._held:
                    self._renew()

    def _renew(self) -> None:
        silent = self._unanswered is not None
        try:
            other = self._ask()
        except FAILURES as error:
            if not silent:
                _log().warning("lease not renewed, going on", error=str(away(self._options, error)))
            return
        if other is not None:
            self._held = False
            lost = _held(self.source, other, "keep the lease of the source")
            _log().error("lease lost", number=self.number, error=str(lost))

    def _doubtful(self) -> bool:
        """Another may have it, and Redis was not found silent just now."""
        return (
            self._passed(self._confirmed) >= self._seconds
            and self._passed(self._unanswered)
            > self._seconds / RENEWALS + LONGEST_ASKS * self._options.timeout_seconds
        )

    def _now(self) -> _Moment:
        return self._clock.monotonic(), self._clock.wall()

    def _passed(self, since: _Moment | None) -> float:
        """Seconds by either clock: one of them stands still while the host sleeps, and the other may be set.
        Too many only means to ask."""
        if since is None:
            return math.inf
        monotonic, wall = self._now()
        return max(monotonic - since[0], wall - since[1])


def _log() -> Any:
    return structlog.get_logger("cdc.lease")


def _held(source: str, note: str, operation: str) -> LeaseHeld:
    if not note:
        remedy = "Start this replicator again: it had fallen silent, and another took over and is gone"
        return LeaseHeld(operation, source, "another had it in Redis meanwhile", remedy)
    try:
        found = json.loads(note)
        who = f"process {found['pid']} on {found['host']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        who = "a replicator that has not said which"
    remedy = "Stop that replicator, or leave it to do the work"
    return LeaseHeld(operation, source, f"held in Redis by {who}", remedy)
