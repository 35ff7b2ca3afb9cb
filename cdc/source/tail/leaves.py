"""How do new values and null flags of single leaves become the present value of a column? The SQL of it.

An update tells of a column, or of each leaf of a STRUCT, a value and a null flag apart. `value_N` and `has_N`
are what is new of the leaf N, and whether anything is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cdc.source.quote import identifier
from cdc.source.tail.twin import LeafPath

RowIds = np.ndarray[Any, np.dtype[np.int64]]


def value(path: LeafPath) -> str:
    """What a leaf's table tells: its value, or whether it is NULL."""
    return "value IS NULL" if path[-1] == 0 and len(path) > 1 else "value"


def together(paths: Sequence[LeafPath], size: int) -> Iterator[Sequence[LeafPath]]:
    """The sorted `paths` in parts of about `size`, a value and its null flag in one."""
    first = 0
    while first < len(paths):
        end = min(first + size, len(paths))
        if end < len(paths) and paths[end] == (*paths[end - 1], 0):
            end += 1
        yield paths[first:end]
        first = end


def each_once(row_ids: RowIds, leaves: RowIds, count: int) -> bool:
    """Whether all leaves have the same rows, and each of them once: as one UPDATE leaves them."""
    updates = leaves < count
    ids = row_ids[updates][np.lexsort((row_ids[updates], leaves[updates]))]
    if len(ids) % count or (np.bincount(leaves[updates], minlength=count) * count != len(ids)).any():
        return False
    by_leaf = ids.reshape(count, -1)
    return bool((by_leaf[0, 1:] > by_leaf[0, :-1]).all() and (by_leaf == by_leaf[0]).all())


def present(path: LeafPath, old: str, under: str, kind: Any, number: Mapping[LeafPath, int]) -> str:
    """The SQL of what now stands at `path`, where `old` stood; `value_N` and `has_N` are of leaves.

    Since 1.3 a writer logs no value that lies there already, also under a NULL: what was 7, then NULL, then 7
    again, has only a flag. So what lies `under` a NULL is kept; where it is not known, that is an error.
    """
    flag = number.get((*path, 0))
    is_null = f"{old} IS NULL" if flag is None else f"coalesce(new.value_{flag}, {old} IS NULL)"
    if kind.id == "struct":
        members = ", ".join(
            f"{name} := {present((*path, at), f'{old}.{name}', f'{under}.{name}', member, number)}"
            for at, name, member in _members(kind)
        )
        return f"CASE WHEN {is_null} THEN NULL ELSE struct_pack({members}) END"
    here = lying(path, old, under, kind, number)
    if flag is None:
        return f"CASE WHEN {is_null} THEN NULL ELSE {here} END"
    unknown = "error('the log does not say which value of row ' || new.row_id || ' is NULL no more')"
    return f"CASE WHEN {is_null} THEN NULL WHEN {here} IS NULL THEN {unknown} ELSE {here} END"


def lying(path: LeafPath, old: str, under: str, kind: Any, number: Mapping[LeafPath, int]) -> str:
    """The SQL of the value that now lies at `path`, whether or not it is NULL; NULL where it is not known."""
    if kind.id == "struct":
        members = ", ".join(
            f"{name} := {lying((*path, at), f'{old}.{name}', f'{under}.{name}', member, number)}"
            for at, name, member in _members(kind)
        )
        return f"struct_pack({members})"
    new, before = number.get(path), f"coalesce({old}, {under})"
    return before if new is None else f"CASE WHEN new.has_{new} THEN new.value_{new} ELSE {before} END"


def _members(kind: Any) -> Iterator[tuple[int, str, Any]]:
    """Of a STRUCT: the number of each member, its quoted name and its type."""
    return ((at, identifier(name), member) for at, (name, member) in enumerate(kind.children, 1))
