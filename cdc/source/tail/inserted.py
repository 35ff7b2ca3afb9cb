"""Which rows did the log insert since the checkpoint, and in which of its frames do they lie?"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cdc.source.format import frames
from cdc.source.format.frames import NotUnderstood
from cdc.source.format.layouts import Flags
from cdc.source.tail.leaves import RowIds

_MOST_KEPT_BYTES = 128 << 20
"""Insert frames kept since the checkpoint. The oldest ones go first: only an update of their rows misses
them, so that a table without updates is followed through a log of any size."""
_RECENT_BYTES = 4 << 20
"""Of log, whose rows are kept decoded: writers update what they wrote last."""
_RECENT_ROUNDS = 256
_FRAME_BYTES = 100
"""What a kept frame takes besides its bytes."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The rows of a round that were decoded already."""

    start: int
    """The row id of the first."""
    columns: Sequence[pa.Array]
    bytes: int
    """What they took in the log."""

    @property
    def end(self) -> int:
        return self.start + len(self.columns[0])


class InsertedRows:
    """The inserts of one table since one checkpoint, numbered by row id."""

    def __init__(self) -> None:
        self.next_row_id = -1
        """The row id of the next row inserted; below 0: it is not known."""
        self.first: int | None = None
        """The row id of the first row that was inserted, if any was."""
        self.rows = 0
        self._starts: list[int] = []
        self._frames: list[bytes] = []
        self._bytes = 0
        self._recent: deque[Decoded] = deque()
        self._recent_bytes = 0

    def note(self, inserts: Sequence[bytes], decoded: Sequence[pa.Array] | None = None) -> None:
        """Keep these INSERT frames, the next ones of the log, and for a while what they were `decoded` to."""
        if inserts and decoded is not None:
            self._recent.append(Decoded(self.next_row_id, decoded, sum(map(len, inserts))))
            self._recent_bytes += self._recent[-1].bytes
            while self._recent_bytes > _RECENT_BYTES or len(self._recent) > _RECENT_ROUNDS:
                self._recent_bytes -= self._recent.popleft().bytes
        for frame in inserts:
            if self.first is None:
                self.first = self.next_row_id
            self._starts.append(self.next_row_id)
            self._frames.append(frame)
            self._bytes += len(frame) + _FRAME_BYTES
            rows = frames.inserted_rows(frame)
            self.next_row_id += rows
            self.rows += rows
        if self._bytes > _MOST_KEPT_BYTES:
            self._forget_oldest()

    def recent(self, row_ids: RowIds) -> tuple[Flags, list[Decoded], RowIds]:
        """Which of these ascending `row_ids` are of rows that were decoded lately, what holds them, and the
        place of each of those among all rows of that."""
        starts = np.fromiter((each.start for each in self._recent), np.int64, len(self._recent))
        ends = np.fromiter((each.end for each in self._recent), np.int64, len(self._recent))
        if not len(starts):
            return np.zeros(len(row_ids), dtype=np.bool_), [], row_ids[:0]
        numbers = np.searchsorted(starts, row_ids, side="right") - 1
        there = (numbers >= 0) & (row_ids < ends[numbers])
        used, of_number = np.unique(numbers[there], return_inverse=True)
        counts = (ends - starts)[used]
        distances = starts[used] - (np.cumsum(counts) - counts)
        return (
            there,
            [self._recent[number] for number in used.tolist()],
            row_ids[there] - distances[of_number],
        )

    def lying_in(self, row_ids: RowIds) -> tuple[list[bytes], RowIds]:
        """The frames that hold the rows of these ascending `row_ids`, and the place of each among all rows of
        those frames.

        Raises:
            NotUnderstood: one of them is kept no more.
        """
        if not self._starts or row_ids[0] < self._starts[0]:
            raise NotUnderstood("an update of a row whose insert lies too far back in the log")
        starts = np.asarray(self._starts)
        numbers, of_number = np.unique(
            np.searchsorted(starts, row_ids, side="right") - 1, return_inverse=True
        )
        inserts = [self._frames[number] for number in numbers.tolist()]
        counts = np.asarray([frames.inserted_rows(frame) for frame in inserts])
        distances = starts[numbers] - (np.cumsum(counts) - counts)
        return inserts, row_ids - distances[of_number]

    def _forget_oldest(self) -> None:
        """Drop frames down to half of the bound: lists are shortened seldom then."""
        forgotten = 0
        while self._bytes > _MOST_KEPT_BYTES // 2:
            self._bytes -= len(self._frames[forgotten]) + _FRAME_BYTES
            forgotten += 1
        del self._frames[:forgotten], self._starts[:forgotten]
