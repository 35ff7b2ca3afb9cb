"""Writes the copy in Redis, from a thread of its own: whatever Redis does, replication does not notice.

What is to be written waits in a queue with a bound; past it the oldest is dropped and counted. Nothing reads
the copy while replicating, so that losing Redis, or all it holds, loses nothing. Where the lease is in Redis
too, each request carries its number, and Redis itself refuses those of a replicator that was overtaken.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, Protocol, Self

from cdc.change import Batch
from cdc.clock import Clock, SystemClock
from cdc.config.redis import RedisOptions
from cdc.errors import CdcError
from cdc.rate import Rate
from cdc.redis_client import FAILURES, Overtaken, away, connect
from cdc.redis_copy.rows import Rows, base_key, lease_number_key, schema_key

MAX_BYTES = 64 << 20
"""Of rows that wait to be written: two of the largest batches by default."""
PIPELINE_ROWS = 500
"""Rows written by one request: some 100 kB."""
MOST_ROWS_PER_SECOND = 5_000.0
"""Each row costs some 20 microseconds of the interpreter, which replication needs too: a tenth of it at most.
A backfill is faster than this; what does not fit is dropped."""
STATUS_SECONDS = 1.0
AWAY_SECONDS = (0.5, 1.0, 2.0, 5.0)
"""The waits between attempts while Redis is away; the last one repeats."""

_FENCED = """
local number = redis.call('get', KEYS[1])
if ARGV[1] ~= '' and ARGV[1] ~= number then
  return number or ''
end
"""
"""Goes before what is written: it all happens in one step."""
_WRITE_ROWS = (
    _FENCED
    + """
redis.call('set', KEYS[2], ARGV[3], 'EX', ARGV[2] + 60)
for at = 3, #KEYS do
  if ARGV[at + 1] == '' then
    redis.call('unlink', KEYS[at])
  else
    redis.call('set', KEYS[at], ARGV[at + 1], 'EX', ARGV[2])
  end
end
return false
"""
)
"""The schema outlives the rows that need it; a row without a value is deleted."""
_WRITE_STATUS = (
    _FENCED
    + """
redis.call('set', KEYS[2], ARGV[2])
for at = 3, #ARGV, 2 do
  redis.call('hset', KEYS[3], ARGV[at], ARGV[at + 1])
end
return false
"""
)


class RedisCopyEvents(Protocol):
    """Told what becomes of the copy; must neither raise nor block."""

    def redis_wrote(self, rows: int) -> None: ...

    def redis_dropped(self, rows: int) -> None:
        """So many rows are not in Redis in their last state: it was too slow, or away."""
        ...

    def redis_reached(self, error: CdcError | None) -> None:
        """None: it answers. Told at each change, and of each error."""
        ...


class RedisCopy:
    """The copy of one source's state. A context manager: entering starts the thread, leaving ends it.

    `offer` may be called from any thread and takes microseconds.
    """

    def __init__(
        self,
        options: RedisOptions,
        source: str,
        status: Callable[[], Mapping[str, Any]],
        events: RedisCopyEvents,
        *,
        lease_number: int | None = None,
        row_ttl_seconds: int = 3600,
        max_bytes: int = MAX_BYTES,
        clock: Clock | None = None,
    ) -> None:
        """
        Args:
            status: what the status file says, as JSON values.
            lease_number: of the lease in Redis; None where it is not there, and nobody is kept from writing.
            row_ttl_seconds: 0: rows are not copied.

        Raises:
            ConfigError: the options are wrong.
        """
        self._options = options
        self._client = connect(options)
        self._base = base_key(options.prefix, source)
        self._status = status
        self._events = events
        self._lease_number = lease_number
        self._ttl = row_ttl_seconds
        self._max_bytes = max_bytes
        self._clock = clock or SystemClock()
        self._rate = Rate(MOST_ROWS_PER_SECOND, self._clock)
        self._lock = threading.Lock()
        self._queue: deque[Batch] = deque()
        self._bytes = 0
        self._filled = threading.Event()
        self._stop = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="redis copy", daemon=True)

    def __repr__(self) -> str:
        return f"RedisCopy({self._options}, {len(self._queue)} batches wait)"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._filled.set()
        self._thread.join(2 * self._options.timeout_seconds + 0.5)
        self._client.close()

    def offer(self, batch: Batch) -> None:
        """`batch` was read, and is on its way to the target: keep the last state of its rows."""
        if not self._ttl or not len(batch):
            return
        dropped = 0
        with self._lock:
            self._queue.append(batch)
            self._bytes += batch.nbytes
            while self._bytes > self._max_bytes:
                oldest = self._queue.popleft()
                self._bytes -= oldest.nbytes
                dropped += len(oldest)
        if dropped:
            self._events.redis_dropped(dropped)
        self._filled.set()

    def _run(self) -> None:
        status_at = self._clock.monotonic()
        while not self._stop.is_set():
            if (left := status_at - self._clock.monotonic()) <= 0:
                self._attempt(self._write_status)
                status_at = self._clock.monotonic() + STATUS_SECONDS
            elif (batch := self._next()) is not None:
                self._write(batch)
            else:
                self._clock.wait(self._filled, left)
        if not self._failures:
            self._attempt(self._write_status)  # its last word

    def _next(self) -> Batch | None:
        with self._lock:
            self._filled.clear()
            if not self._queue:
                return None
            batch = self._queue.popleft()
            self._bytes -= batch.nbytes
            return batch

    def _write(self, batch: Batch) -> None:
        """Write the rows; those that Redis does not take are dropped once it is away for long."""
        rows = Rows.of(batch)
        for start in range(0, len(batch), PIPELINE_ROWS):
            count = min(PIPELINE_ROWS, len(batch) - start)
            self._clock.wait(self._stop, self._rate.take(count))
            while not self._attempt(partial(self._write_rows, rows, start, count)):
                if self._stop.is_set() or self._failures >= len(AWAY_SECONDS):
                    self._events.redis_dropped(len(batch) - start)
                    return

    def _write_rows(self, rows: Rows, start: int, count: int) -> None:
        keys = [schema_key(self._base, rows.batch.plan.table, rows.schema_name)]
        values = [rows.schema]
        for key, value in rows.values(self._base, start, count):
            keys.append(key)
            values.append(value or b"")
        self._run_script(_WRITE_ROWS, keys, (self._ttl, *values))
        self._events.redis_wrote(count)

    def _write_status(self) -> None:
        status = dict(self._status())
        tables = {table["table"]: json.dumps(table) for table in status.pop("tables", ())}
        about = json.dumps(status | {"host": socket.gethostname()})
        keys = [f"{self._base}:replicator", f"{self._base}:sync"]
        self._run_script(_WRITE_STATUS, keys, (about, *chain.from_iterable(tables.items())))

    def _run_script(self, script: str, keys: Sequence[str], values: Iterable[object]) -> None:
        """Raises:
        Overtaken: another replicator has taken the lease; nothing was written.
        redis.RedisError, OSError: it may have been, or not.
        """
        keys = [lease_number_key(self._base), *keys]
        mine = "" if self._lease_number is None else str(self._lease_number)
        newest = self._client.execute_command("EVAL", script, len(keys), *keys, mine, *values)
        if newest is not None:
            raise Overtaken(f"its lease number is {mine}, and the newest is {newest.decode() or 'lost'}")

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Whether Redis took it; when not, wait as long as it is to be left alone."""
        try:
            work()
        except FAILURES as error:
            self._events.redis_reached(away(self._options, error))
            delay = AWAY_SECONDS[min(self._failures, len(AWAY_SECONDS) - 1)]
            self._failures += 1
            self._clock.wait(self._stop, delay)
            return False
        if self._failures:
            self._failures = 0
            self._events.redis_reached(None)
        return True
