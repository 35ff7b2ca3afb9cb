"""Which trouble is an INSERT to meet now?

A test asks for a fault over `POST /_fault`; the server asks `Faults.next_insert` once per INSERT, when its
data have arrived, and lets `finish` end the INSERT as the fault has it.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, replace
from typing import Literal, get_args

from tests.support.modern.engine import EngineError, InsertInProgress

Kind = Literal["refuse", "delay", "drop_before", "drop_after"]


@dataclass(frozen=True)
class Fault:
    """One kind of trouble, for the next `times` INSERTs (None: all), for `for_seconds` (None: until cleared).

    * refuse: the INSERT's data are read, nothing is applied, the answer is exception `code` with `message`.
    * delay: the INSERT is applied `seconds` late.
    * drop_before: the INSERT's data are read, nothing is applied, the connection is closed without an answer.
    * drop_after: the INSERT is applied, the connection is closed without an answer.

    `table` restricts it to INSERTs into tables whose name in the statement ends with that.
    """

    kind: Kind
    times: int | None = 1
    for_seconds: float | None = None
    seconds: float = 0.0
    code: int = 0
    message: str = "refused by the test"
    table: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"no fault of kind {self.kind!r}")


def too_many_parts(for_seconds: float, table: str = "") -> Fault:
    """What the server answers while merges do not keep up."""
    message = (
        "Too many parts (3000). Merges are processing significantly slower than inserts. (TOO_MANY_PARTS)"
    )
    return Fault("refuse", times=None, for_seconds=for_seconds, code=252, message=message, table=table)


def read_only(for_seconds: float | None = None, table: str = "") -> Fault:
    """What a replicated table answers while it has no coordination service; until cleared by default."""
    message = "Table is in readonly mode (TABLE_IS_READ_ONLY)"
    return Fault("refuse", times=None, for_seconds=for_seconds, code=242, message=message, table=table)


class Dropped(Exception):
    """A fault asked for this connection to be closed without an answer."""


class Faults:
    """The faults asked for, first asked first served; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[Fault, float | None]] = []

    def add(self, fault: Fault) -> None:
        until = None if fault.for_seconds is None else time.monotonic() + fault.for_seconds
        with self._lock:
            self._waiting.append((fault, until))

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def waiting(self) -> int:
        """How many faults wait for an INSERT to meet them."""
        with self._lock:
            return len(self._waiting)

    def next_insert(self, table: str) -> Fault | None:
        """The fault this INSERT meets; uses up one of its times."""
        now = time.monotonic()
        with self._lock:
            self._waiting = [(f, until) for f, until in self._waiting if until is None or now < until]
            for at, (fault, until) in enumerate(self._waiting):
                if not table.replace("`", "").endswith(fault.table):
                    continue
                if fault.times is not None:
                    left = replace(fault, times=fault.times - 1)
                    self._waiting[at : at + 1] = [(left, until)] if left.times else []
                return fault
        return None


def finish(running: InsertInProgress, fault: Fault | None) -> int:
    """End an INSERT whose data have arrived; gives the rows written.

    Raises:
        EngineError: the engine or the fault refused it.
        Dropped: the connection is to be closed now.
    """
    if fault is None:
        return running.finish()
    if fault.kind in ("refuse", "drop_before"):
        running.cancel()
        if fault.kind == "drop_before":
            raise Dropped
        raise EngineError(fault.code, f"DB::Exception: {fault.message}")
    time.sleep(fault.seconds)
    written = running.finish()
    if fault.kind == "drop_after":
        raise Dropped
    return written


def parse(body: bytes) -> Fault:
    """A fault from the JSON object of its fields; raises ValueError for anything else."""
    fields = json.loads(body)
    try:
        return Fault(**fields)
    except TypeError as error:
        raise ValueError(str(error)) from None
