"""The log's frames: where its last commit ends, whatever is behind it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.source.format.frames import make_frame
from cdc.source.format.log import (
    CHECKPOINT,
    FLUSH,
    LogEnd,
    LogWalk,
    ReadAt,
    Rewritten,
    parse_log_header,
)

IDENTIFIER = bytes(range(0xF8, 0x108 - 8)) + bytes(8)
OLD_HEADER = bytes.fromhex("6400 62 6500 02 ffff")
"""As DuckDB 1.0 to 1.4 write it."""


def varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def header(iteration: int, version: int = 2) -> bytes:
    identifier = b"".join(varint(byte) for byte in IDENTIFIER)
    return (
        bytes.fromhex("6400 62 6500")
        + varint(version)
        + b"\x66\x00"
        + varint(16)
        + identifier
        + b"\x67\x00"
        + varint(iteration)
        + b"\xff\xff"
    )


def frame(kind: int, rest: bytes = b"") -> bytes:
    payload = bytes([100, 0, kind]) + rest + b"\xff\xff"
    return len(payload).to_bytes(8, "little") + bytes(8) + payload


COMMIT = frame(FLUSH)


def marker(meta_block: int) -> bytes:
    pointer = b"\x64\x00" + varint(meta_block) if meta_block else b""  # DuckDB leaves out what is 0
    return frame(CHECKPOINT, b"\x65\x00" + pointer + b"\x65\x00\x08\xff\xff")


def look(walk: LogWalk, log: bytes) -> LogEnd | None:
    return walk.look(len(log), lambda offset, size: log[offset : offset + size])


def walked(log: bytes) -> LogEnd | None:
    return look(LogWalk((0, 0), log[:512]), log)


def test_the_header_names_the_database_and_the_checkpoint_it_follows() -> None:
    parsed = parse_log_header(header(300))
    assert parsed is not None
    assert (parsed.version, parsed.identifier, parsed.iteration) == (2, IDENTIFIER.hex(), 300)
    assert parsed.size == len(header(300))


def test_the_header_of_1_x_has_neither() -> None:
    parsed = parse_log_header(OLD_HEADER)
    assert parsed is not None
    assert (parsed.version, parsed.identifier, parsed.iteration, parsed.size) == (2, None, None, 8)


@pytest.mark.parametrize("size", range(8))
def test_a_header_that_is_not_whole_yet_is_none(size: int) -> None:
    assert parse_log_header(OLD_HEADER[:size]) is None
    assert walked(OLD_HEADER[:size]) is None


def test_a_log_without_a_commit_has_nothing_committed() -> None:
    end = walked(OLD_HEADER + frame(26, bytes(40)))
    assert end is not None
    assert (end.committed, end.end) == (0, 0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=12), st.data())
def test_a_torn_commit_changes_nothing_at_any_byte(sizes: list[int], data: st.DataObject) -> None:
    whole = header(1) + b"".join(frame(26, bytes(size)) + COMMIT for size in sizes)
    torn = whole + frame(26, bytes(100)) + COMMIT
    cut = data.draw(st.integers(len(whole), len(torn) - 1))
    end = walked(torn[:cut])
    assert end is not None
    assert end.committed == end.end == len(whole)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 70_000), max_size=30), st.lists(st.integers(0, 1 << 21), max_size=8))
def test_looking_as_the_log_grows_finds_what_one_look_finds(sizes: list[int], looks: list[int]) -> None:
    log = OLD_HEADER + b"".join(frame(26, bytes(size)) + COMMIT for size in sizes)
    walk = LogWalk((0, 0), log[:512])
    for size in sorted(min(size, len(log)) for size in looks):
        look(walk, log[:size])
    end = look(walk, log)
    assert end is not None
    assert end == walked(log)
    assert end.committed == (len(log) if sizes else 0)


def test_a_frame_larger_than_the_chunk_read_is_stepped_over() -> None:
    log = OLD_HEADER + frame(26, bytes(3 << 20)) + COMMIT
    end = walked(log)
    assert end is not None
    assert end.committed == len(log)


@pytest.mark.parametrize("root", [0, 5, 3 << 56 | 5])
def test_a_checkpoints_marker_ends_the_log_and_names_its_block(root: int) -> None:
    log = OLD_HEADER + frame(26) + COMMIT
    end = walked(log + marker(root))
    assert end is not None
    assert (end.committed, end.marker, end.end) == (len(log), root, len(log + marker(root)))


def test_a_log_that_was_emptied_and_written_anew_is_another_one() -> None:
    old = OLD_HEADER + frame(26, b"old") + COMMIT
    new = OLD_HEADER + frame(26, b"new") + COMMIT + COMMIT
    walk = LogWalk((1, 1), old)
    look(walk, old)
    assert walk.belongs((1, 1), len(old), lambda offset, size: old[offset : offset + size])
    assert not walk.belongs((1, 1), len(new), lambda offset, size: new[offset : offset + size])
    assert not walk.belongs((1, 2), len(old), lambda offset, size: old[offset : offset + size])
    assert not walk.belongs((1, 1), 8, lambda offset, size: OLD_HEADER[offset : offset + size])


@pytest.mark.parametrize("version", [1, 3, 4])
def test_of_a_log_that_cannot_be_walked_the_size_is_the_position(version: int) -> None:
    log = header(9, version) + bytes(1000)
    end = walked(log)
    assert end is not None
    assert end.committed == end.end == len(log)


def read_of(log: bytes) -> ReadAt:
    return lambda offset, size: log[offset : offset + size]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 255)), min_size=1, max_size=20),
    st.lists(st.integers(0, 1 << 17), max_size=8),
    st.data(),
)
def test_a_place_has_one_proof_however_the_log_was_looked_at(
    commits: list[tuple[int, int]], looks: list[int], data: st.DataObject
) -> None:
    log, ends = header(1), []
    for size, byte in commits:
        log += sound(frame(26, bytes([byte]) * size)) + COMMIT
        ends.append(len(log))
    walk = LogWalk((0, 0), log[:512])
    for size in sorted(min(size, len(log)) for size in looks):
        look(walk, log[:size])
    look(walk, log)
    place = data.draw(st.sampled_from(ends))
    fresh = LogWalk((0, 0), log[:512])
    look(fresh, log[:place])
    assert walk.proof_at(place, read_of(log)) == fresh.proof() == fresh.proof_at(place, read_of(log))
    assert walk.proof_at(place - 1, read_of(log)) is None
    assert walk.proof_at(len(log) + 1, read_of(log)) is None


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 200), st.integers(3, 200))
def test_another_commit_anywhere_before_a_place_gives_it_another_proof(at: int, count: int) -> None:
    def log_with(byte: int) -> bytes:
        return header(1) + b"".join(
            sound(frame(26, bytes([byte if n == at % count else 0]) * 40)) + COMMIT for n in range(count)
        )

    one, other = log_with(1), log_with(2)
    assert len(one) == len(other)
    first, second = (LogWalk((0, 0), log[:512]) for log in (one, other))
    look(first, one)
    look(second, other)
    assert first.proof() != second.proof()


def test_a_log_whose_end_was_written_anew_under_the_walk_is_another_one() -> None:
    log = header(1) + b"".join(sound(frame(26, bytes([n]) * 40)) + COMMIT for n in range(50))
    walk = LogWalk((0, 0), log[:512])
    look(walk, log)
    anew = log[:-100] + b"x" * 10 + log[-90:] + frame(26) + COMMIT
    with pytest.raises(Rewritten):
        look(walk, anew)


def test_a_look_reads_nothing_more_than_the_end_and_what_is_new() -> None:
    log = header(1) + b"".join(sound(frame(26, bytes(40))) + COMMIT for _ in range(200))
    walk, reads = LogWalk((0, 0), log[:512]), []

    def read_at(offset: int, size: int) -> bytes:
        reads.append((offset, size))
        return grown[offset : offset + size]

    grown = log
    look(walk, log)
    grown = log + sound(frame(26, bytes(40))) + COMMIT
    walk.look(len(grown), read_at)
    assert len(reads) == 1
    assert sum(size for _, size in reads) <= 2048 + len(grown) - len(log)


def sound(framed: bytes) -> bytes:
    """The frame with the checksum of its payload, in the place of none."""
    return make_frame(framed[16:])
