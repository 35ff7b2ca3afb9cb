"""Is the table that the target has now the one that rows were delivered to?

A server says different things of a table, by its release and by what a user may read. From each only that is
concluded which cannot be wrong:

* It is not there.
* It has another UUID, or, where the server has none, its definition was written at another time (told to the
  second): another table, or an altered one. To deliver everything again is right for both.
* It holds no row at all, not even a deleted one, though rows were delivered: it was emptied. Merging never
  takes a key's last row, so this is no merge; a table whose rows expire (TTL) is left out.
* Of a partition that had rows none are left, its parts begin later, the table's newest part is older than one
  that was there, or the block that was inserted next is in no part although later ones are: rows were taken
  away. Parts that are merged cover what they were made of, so this is no merge either. Which rows is not
  known: to be compared.

That its rows are others is not seen here, but by a comparison.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

MOST_HOSTS = 16
"""Servers whose tables are remembered: replicas behind one name each have their own."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one server said of one table, at one moment."""

    host: str
    """The server's name for itself."""
    uuid: str = ""
    """Empty where the server gives tables none."""
    made: str = ""
    """When the table's definition was written."""
    rows: int | None = None
    """Rows of all parts, replaced and deleted ones too; None: not known."""
    parts: Mapping[str, tuple[int, int]] | None = None
    """By partition the least and the greatest block number of its parts; None: not known."""
    reached: int = 0
    """The greatest block number that is known of the table; it stays when the rows go."""
    expires: bool = False
    """Rows are removed by the table's TTL."""
    view: bool = True
    """Its view is there."""
    uptime: int = 0
    """Seconds that the server has run."""

    def is_of_the_same_table_as(self, other: Sighting) -> bool:
        """Whether block numbers of both have one meaning."""
        same = self.uuid == other.uuid if self.uuid and other.uuid else self.made == other.made
        return same and self.host == other.host

    def after(self, before: Sighting) -> Sighting:
        """This look, and what was known since an earlier one at the same table."""
        return replace(self, reached=max(self.reached, before.reached))


class Verdict(Enum):
    """What became of the table that rows were delivered to."""

    SAME = "is as it was"
    GONE = "was gone"
    ANOTHER = "is another one"
    EMPTIED = "was emptied"

    @property
    def deliver_again(self) -> bool:
        return self in (Verdict.ANOTHER, Verdict.EMPTIED)


@dataclass(frozen=True, slots=True)
class Known:
    """The tables that rows were delivered to, by host: UUID, and when it was made."""

    hosts: Mapping[str, tuple[str, str]]

    def with_(self, found: Sighting) -> Known:
        """`found` is one of them."""
        others = {host: each for host, each in self.hosts.items() if host != found.host}
        kept = dict(list(others.items())[-(MOST_HOSTS - 1) :])
        return Known({**kept, found.host: (found.uuid, found.made)})

    def to_json(self) -> str:
        return json.dumps(dict(self.hosts))

    @classmethod
    def from_json(cls, text: str | None) -> Known:
        """The inverse of `to_json`; nothing is known where there is no text."""
        stored: dict[str, list[str]] = {} if text is None else json.loads(text)
        return cls({host: (uuid, made) for host, (uuid, made) in stored.items()})


def judge(known: Known, found: Sighting | None, *, delivered: bool) -> Verdict:
    """What `found` is, to one who knows `known`.

    Args:
        delivered: rows were delivered to the table that is known, before it was looked at.
    """
    if found is None:
        return Verdict.GONE
    if delivered and found.rows == 0 and not found.expires:
        return Verdict.EMPTIED
    if found.host in known.hosts:
        uuid, made = known.hosts[found.host]
        same = uuid == found.uuid if uuid and found.uuid else made == found.made
        return Verdict.SAME if same else Verdict.ANOTHER
    uuids = {uuid for uuid, _ in known.hosts.values() if uuid}
    if found.uuid and uuids and found.uuid not in uuids:
        return (
            Verdict.ANOTHER
        )  # of a server that was not met before: where replicas share a UUID, it is theirs
    return Verdict.SAME


def rows_taken_away(before: Sighting, now: Sighting) -> bool:
    """Whether rows that were there `before` are not in the same table `now`, other than by a merge."""
    if not now.is_of_the_same_table_as(before) or before.parts is None or now.parts is None or now.expires:
        return False
    newest = max((last for _, last in now.parts.values()), default=0)
    following = before.reached + 1
    covered = any(first <= following <= last for first, last in now.parts.values())
    return (newest > before.reached and not covered) or any(
        partition not in now.parts or now.parts[partition][0] > first or newest < last
        for partition, (first, last) in before.parts.items()
    )
