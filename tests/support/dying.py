"""`cdc` that ends itself at a named step of its cycle: `python -m tests.support.dying --config FILE run`.

The step is named by CDC_DIE_AT, the signal by CDC_DIE_BY (KILL or TERM), and CDC_DIE_ON says the how manieth
time the step is reached. A process that runs is told by the file that CDC_DIE_FILE names: "STEP:SIGNAL".
The steps are taken at the replicator's ports, so the product knows nothing of this. Its wall clock is off by
the seconds that the file named by CDC_CLOCK holds. On SIGUSR1 it writes the stack of every thread to its log.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from cdc.app import opening
from cdc.change import Batch, BatchLimits, Encoded, FailedRow, Mark, Position, TableId
from cdc.cli import main
from cdc.clock import SystemClock
from cdc.replicator.ports import TableReader, TargetTable
from cdc.stored import Decision, SpoolEntry
from cdc.target.native import NativeBlock

STEPS = (
    "after read",
    "after encode",
    "before send",
    "mid-send",
    "after send",
    "in commit",
    "after commit",
)
DIGEST_STEPS = ("before digests", "after digests")
"""Steps of storing what is known of the target; not in every cycle."""

SPOOL_STEPS = ("before spooling", "after spooling")
"""Steps of storing what is read while the target is away."""

_ARMED = Path(os.environ.get("CDC_DIE_FILE", os.devnull))
_AT = os.environ.get("CDC_DIE_AT", "")
_BY = signal.Signals[f"SIG{os.environ.get('CDC_DIE_BY', 'KILL')}"]
_lock = threading.Lock()
_left = int(os.environ.get("CDC_DIE_ON", "1"))


def reach(step: str) -> None:
    """Die here, if this is the step and the time."""
    global _left
    if _ARMED.is_file():
        at, by = _ARMED.read_text().split(":")
        if at == step:
            _ARMED.unlink()
            os.kill(os.getpid(), signal.Signals[f"SIG{by}"])
    if step != _AT:
        return
    with _lock:
        _left -= 1
        due = _left == 0
    if due:
        os.kill(os.getpid(), _BY)


class _Wrapped:
    """Whatever is not wrapped goes through."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Source(_Wrapped):
    def open(self, *given: Any, **named: Any) -> TableReader:
        return _Reader(self._inner.open(*given, **named))


class _Reader(_Wrapped):
    def read(self, after: Mark | None, limits: BatchLimits) -> Iterator[Batch]:
        for batch in self._inner.read(after, limits):
            reach("after read")
            yield batch


class _Target(_Wrapped):
    def open(self, *given: Any, **named: Any) -> TargetTable:
        return _Table(self._inner.open(*given, **named))


class _Table(_Wrapped):
    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = self._inner.encode(batch)
        reach("after encode")
        block = encoded.block
        assert isinstance(block, NativeBlock)
        if _ARMED.is_file() or _AT == "mid-send":
            block = _CutBlock(*(getattr(block, each.name) for each in fields(block)))
        return replace(encoded, block=block)

    def send(self, encoded: Encoded) -> None:
        reach("before send")
        self._inner.send(encoded)
        reach("after send")


class _CutBlock(NativeBlock):
    """A block that is asked for its second half while the first is on its way."""

    def body(self, revision: int = 0) -> Any:
        pieces = super().body(revision)
        yield from pieces[: len(pieces) // 2]
        reach("mid-send")
        yield from pieces[len(pieces) // 2 :]


class _Marks(_Wrapped):
    def commit(self, decision: Decision) -> int:
        if _ARMED.is_file() or _AT == "in commit":
            decision = replace(decision, failed=_Inside(decision.failed))
        forgotten: int = self._inner.commit(decision)
        reach("after commit")
        return forgotten

    def append(self, table: TableId, entries: Sequence[SpoolEntry]) -> None:
        reach("before spooling")
        self._inner.append(table, entries)
        reach("after spooling")

    def remember(self, table: TableId, digests: bytes, position: Position | None = None) -> None:
        reach("before digests")
        self._inner.remember(table, digests, position)
        reach("after digests")


class _Inside(tuple[FailedRow, ...]):
    """Failed rows that are asked for between two statements of the transaction."""

    def __bool__(self) -> bool:
        return True  # so that they are asked for when there are none

    def __iter__(self) -> Iterator[FailedRow]:
        reach("in commit")
        return super().__iter__()


def _wrap() -> None:
    setattr(SystemClock, "wall", lambda clock: time.time() + _seconds_off())  # noqa: B010 - mypy refuses =
    _wrap_results(opening, "source_of", _Source)
    _wrap_results(opening, "target_of", _Target)
    _wrap_results(opening, "bind", _Marks)


def _seconds_off() -> float:
    path = os.environ.get("CDC_CLOCK")
    return float(Path(path).read_text()) if path else 0.0


def _wrap_results(where: Any, name: str, wrapper: type[_Wrapped]) -> None:
    made = getattr(where, name)
    setattr(where, name, lambda *given, **named: wrapper(made(*given, **named)))


if __name__ == "__main__":
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    _wrap()
    main()
