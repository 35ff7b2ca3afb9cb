"""The file goes back, or its log is cut: what was delivered is of another history, and is mended or told.

Deletions of rows that only the history before had are not handed out: that they may be left over is told, and
the replicator compares then (see test_version_clock).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cdc.change import Position
from cdc.errors import SourceReplaced
from cdc.source.format import frames
from tests.support.followed import Followed
from tests.support.kept import Kept, written
from tests.support.sources import plan_of
from tests.support.writers import VERSIONS

Meanwhile = Callable[[Followed], None]
"""What the reader does while the file changes: it looks, it does not, or it is another one afterwards."""


def looking(followed: Followed) -> None:
    followed.kept.read()


def suspended(followed: Followed) -> None:
    """It reads nothing, but its descriptors stay open."""


def stopped(followed: Followed) -> None:
    followed.kept.reopen(followed.source)


@pytest.fixture(params=[looking, suspended, stopped])
def meanwhile(request: pytest.FixtureRequest) -> Meanwhile:
    found: Meanwhile = request.param
    return found


def log_of(followed: Followed) -> Path:
    return Path(f"{followed.path}.wal")


def header_size(log: bytes) -> int:
    """Where the frames begin, which reach to the end of the log."""
    return next(at for at in range(8, 200) if at + sum(map(len, frames.read_frames(log, at))) == len(log))


def commit_ends(log: bytes) -> list[int]:
    """Where each commit of the log ends."""
    ends, at = [], header_size(log)
    for frame in frames.read_frames(log, at):
        at += len(frame)
        if frames.kind(frame) == frames.COMMIT:
            ends.append(at)
    return ends


def with_other_rows(log: bytes, before: bytes, after: bytes) -> bytes:
    """The log of the same commits with other values of the same size, as sound as it was."""
    header = header_size(log)
    changed = frames.read_frames(log.replace(before, after), header)
    made = [frames.make_frame(frame[frames.FRAME_HEADER.size :]) for frame in changed]
    return b"".join((log[:header], *made))


def settle(followed: Followed) -> None:
    """Read until nothing more comes, and see that what the source has is there as it has it."""
    followed.kept.read()
    if followed.options["encryption_key"] is None:
        followed.kept.learn()
    followed.kept.read()
    there = written(followed.writer, "t")
    assert followed.kept.rows >= there
    left_over = followed.kept.rows - there
    assert not left_over or followed.kept.broken, left_over


def rewind(followed: Followed, cut: Callable[[bytes], bytes], meanwhile: Meanwhile) -> None:
    """Kill the writer, cut the log, and let another writer go on."""
    followed.writer.kill()
    log = log_of(followed)
    kept = cut(log.read_bytes())
    with log.open("r+b") as file:  # in place, as a recovering file system does
        file.truncate(0)
        file.write(kept)
    if meanwhile is looking:
        followed.kept.read()
    followed.write(followed.version)


@pytest.mark.parametrize("cut", ["on a frame", "within a frame", "to its header", "to nothing"])
def test_commits_that_were_delivered_and_lost_with_the_logs_end_are_mended(
    versions: Followed, meanwhile: Meanwhile, cut: str
) -> None:
    """[issue 12 case 4] The writer goes on with commits of the same size, past the old end."""
    versions.run("UPDATE t SET s = 'kept' WHERE id = 1")
    for row in range(10):
        versions.run(f"UPDATE t SET s = 'lost {row}' WHERE id = {100 + row}")
    versions.run("INSERT INTO t VALUES (1000, 1000, 'lost')")
    assert versions.equal()

    def shortened(log: bytes) -> bytes:
        ends = commit_ends(log)
        return {
            "on a frame": log[: ends[0]],
            "within a frame": log[: ends[3] + 20],
            "to its header": log[: ends[0] - 1],
            "to nothing": b"",
        }[cut]

    rewind(versions, shortened, meanwhile)
    for row in range(12):
        versions.run(f"UPDATE t SET s = 'again{row % 10}' WHERE id = {200 + row}")
    versions.run("INSERT INTO t VALUES (1000, 1000, 'anew')")
    if versions.version == "1.0.0" and cut in ("within a frame", "to its header"):
        versions.run("CHECKPOINT")  # it appends to a torn end, behind which nobody, nor itself, reads
    meanwhile(versions)
    settle(versions)
    versions.run("UPDATE t SET s = 'after' WHERE id IN (2, 1000)", "DELETE FROM t WHERE id = 3")
    settle(versions)
    versions.run("CHECKPOINT", "UPDATE t SET s = 'later' WHERE id = 4")
    settle(versions)


def test_a_log_that_was_cut_and_grew_to_exactly_the_same_place_is_not_the_same_log(
    current: Followed, meanwhile: Meanwhile
) -> None:
    current.run("UPDATE t SET s = 'seen 1' WHERE id = 1", "UPDATE t SET s = 'seen 2' WHERE id = 2")
    assert current.equal()
    whole = log_of(current).read_bytes()
    place = current.source.position()
    rewritten = with_other_rows(whole, b"seen ", b"lost ")
    assert len(rewritten) == len(whole)
    current.writer.kill()
    with log_of(current).open("r+b") as file:
        file.write(rewritten)
    meanwhile(current)
    current.kept.read()
    assert {("1", "1", "lost 1"), ("2", "2", "lost 2")} <= current.kept.rows
    assert current.kept.broken
    assert current.source.position().offset == place.offset
    current.write(current.version)
    settle(current)


def test_a_last_frame_that_is_the_same_does_not_prove_the_log(current: Followed) -> None:
    """A restart compares all of what was read, not only its end."""
    for row in range(60):
        current.run(f"UPDATE t SET s = 'same' WHERE id = {500 + row}")
    current.run("CHECKPOINT", "UPDATE t SET s = 'seen 1' WHERE id = 1")
    for row in range(60):
        current.run(f"UPDATE t SET s = 'same' WHERE id = {500 + row}")
    assert current.equal()
    rewritten = with_other_rows(log_of(current).read_bytes(), b"seen 1", b"lost 1")
    current.writer.kill()
    with log_of(current).open("r+b") as file:
        file.write(rewritten)
    current.source.close()
    current.open()
    current.kept.reopen(current.source)
    current.kept.read()
    assert ("1", "1", "lost 1") in current.kept.rows
    assert any("not those it has" in told for told in current.kept.broken)


@pytest.mark.parametrize("how", ["renamed", "copied over in place"])
@pytest.mark.parametrize("checkpoints", [0, 1, 2])
def test_an_older_copy_takes_the_place_of_the_file(
    versions: Followed, meanwhile: Meanwhile, how: str, checkpoints: int, tmp_path: Path
) -> None:
    """[issue 12 case 3] Another writer goes on with it, and checkpoints it or not."""
    versions.run("UPDATE t SET s = 'copied' WHERE id = 1", "INSERT INTO t VALUES (1000, 1000, 'copied')")
    assert versions.equal()
    versions.writer.kill()
    copies = {path: shutil.copy(path, tmp_path / f"copy{path.suffix}") for path in files_of(versions)}
    versions.write(versions.version)
    versions.run(
        "UPDATE t SET s = 'lost'",
        "INSERT INTO t SELECT i, i, 'lost' FROM range(1001, 1500) r(i)",
        "DELETE FROM t WHERE id BETWEEN 20 AND 40",
    )
    versions.kept.read()
    versions.run("CHECKPOINT", "UPDATE t SET s = 'lost too' WHERE id < 300")
    assert versions.equal()
    versions.writer.kill()
    for path in files_of(versions):
        if path not in copies:
            path.unlink()
    for path, copy in copies.items():
        if how == "renamed":
            os.replace(copy, path)
        else:
            shutil.copyfile(copy, path)
    if meanwhile is looking and not is_another_source(versions, how):
        versions.kept.read()
    versions.write(versions.version)
    versions.run("UPDATE t SET s = 'restored' WHERE id < 5", "INSERT INTO t VALUES (1001, 1001, 'restored')")
    for _ in range(checkpoints):
        versions.run("CHECKPOINT", "UPDATE t SET s = 'checkpointed' WHERE id = 6")
    if is_another_source(versions, how):
        replaced(versions)
        return
    meanwhile(versions)
    settle(versions)
    versions.run("UPDATE t SET s = 'after' WHERE id IN (30, 1001)")
    settle(versions)
    versions.run("CHECKPOINT", "UPDATE t SET s = 'later' WHERE id = 7")
    settle(versions)


def files_of(followed: Followed) -> list[Path]:
    return [path for path in (followed.path, log_of(followed)) if path.exists()]


def is_another_source(followed: Followed, how: str) -> bool:
    """Files of 1.x have no identifier: another file is another source."""
    return how == "renamed" and followed.source.identity.startswith("file-")


def replaced(followed: Followed) -> None:
    """Replicated by a source of its own, as the replicator begins again with it."""
    before = followed.kept
    with pytest.raises(SourceReplaced):
        before.read()
    followed.source.close()
    followed.open()
    followed.kept = Kept(followed.source, plan_of(followed.source, "t"))
    followed.kept.inherit(before)
    settle(followed)


def test_an_encrypted_log_that_was_cut_is_read_anew(followed: Followed, meanwhile: Meanwhile) -> None:
    followed.write(VERSIONS[-1], {"force_mbedtls_unsafe": "true"}, "ENCRYPTION_KEY 'secret'")
    followed.create()
    followed.follow(encryption_key="secret")
    followed.run("INSERT INTO t VALUES (1000, 1000, 'kept')")
    size = log_of(followed).stat().st_size
    followed.run("INSERT INTO t VALUES (1001, 1001, 'lost')")
    assert followed.equal()
    followed.writer.kill()
    os.truncate(log_of(followed), size)
    if meanwhile is looking:
        followed.kept.read()
    followed.write(VERSIONS[-1], {"force_mbedtls_unsafe": "true"}, "ENCRYPTION_KEY 'secret'")
    followed.run("INSERT INTO t VALUES (1001, 1001, 'anew')")
    meanwhile(followed)
    settle(followed)


def test_versions_only_grow_whatever_the_file_does(current: Followed) -> None:
    positions: list[Position] = [current.source.position()]
    for step in range(4):
        current.run(f"UPDATE t SET s = 'step {step}' WHERE id = 1")
        positions.append(current.source.position())
        current.run("CHECKPOINT")
        positions.append(current.source.position())
    current.run("UPDATE t SET s = 'lost' WHERE id = 1")
    positions.append(current.source.position())
    current.writer.kill()
    log_of(current).unlink()
    positions.append(current.source.position())
    versions = [each.as_version() for each in positions]
    assert versions == sorted(set(versions))
