"""A path that is a symbolic link: the log lies beside the link or beside its end, by the writer's version."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdc.change import Mark
from cdc.replicator.ports import TableReader
from cdc.source import DuckDbSource, open_source
from cdc.source.file.integrity import check_file
from cdc.source.file.places import names_of
from tests.support.sources import deliver, plan_of
from tests.support.waiting import wait_until
from tests.support.writers import VERSIONS, Writer

Links = Callable[[Path], Path]


def absolute(end: Path) -> Path:
    link = end.parents[1] / "links" / "l.db"
    link.symlink_to(end)
    return link


def relative(end: Path) -> Path:
    link = end.parents[1] / "links" / "l.db"
    link.symlink_to(Path("..") / end.parent.name / end.name)
    return link


def chain(end: Path) -> Path:
    (end.parents[1] / "middle" / "m.db").symlink_to(end)
    link = end.parents[1] / "links" / "l.db"
    link.symlink_to("../middle/m.db")
    return link


def directory(end: Path) -> Path:
    (end.parents[1] / "there").symlink_to(end.parent, target_is_directory=True)
    return end.parents[1] / "there" / end.name


def over_a_linked_directory(end: Path) -> Path:
    """`..` of the link's own target is that of the directory that holds the link, wherever one came from."""
    (end.parents[1] / "links" / "l.db").symlink_to(Path("..") / end.parent.name / end.name)
    (end.parents[1] / "elsewhere" / "deep").mkdir(parents=True)
    (end.parents[1] / "elsewhere" / "deep" / "links").symlink_to(end.parents[1] / "links")
    return end.parents[1] / "elsewhere" / "deep" / "links" / "l.db"


@pytest.fixture
def end(tmp_path: Path) -> Path:
    """The file, and directories for links to it."""
    for name in ("real", "middle", "links"):
        (tmp_path / name).mkdir()
    return tmp_path / "real" / "x.db"


@contextmanager
def written(path: Path, end: Path, version: str) -> Iterator[Writer]:
    """A writer that opened the file by `path`, once it was there."""
    with Writer(end, version) as made:
        made.run("CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT)")
        made.run("INSERT INTO t SELECT i, i FROM range(10) r(i)")
    with Writer(path, version) as writer:
        yield writer


def removed(reader: TableReader, mark: Mark | None) -> tuple[list[int], list[int]]:
    """What one read delivers: keys of rows, and of deletions."""
    rows: list[int] = []
    gone: list[int] = []
    for batch in deliver(reader, mark).batches:
        (rows if batch.deleted is None else gone).extend(batch.rows.column("id").to_pylist())
    return rows, gone


def follows(source: DuckDbSource, writer: Writer) -> None:
    """Changes of every kind are delivered before and after a checkpoint."""
    reader = source.open(plan_of(source, "t"))
    mark = deliver(reader, None).mark
    for turn in range(2):
        new = 100 + turn
        writer.run("INSERT INTO t VALUES (?, ?)", new, new)
        assert removed(reader, mark) == ([new], [])
        writer.run("DELETE FROM t WHERE id = ?", turn)
        assert removed(reader, mark) == ([], [turn])
        writer.run("UPDATE t SET seq = ? WHERE id = 5", 50 + turn)
        assert removed(reader, mark) == ([5], [])
        if not turn:
            writer.run("CHECKPOINT")
            deliver(reader, mark)
    assert source.rows(plan_of(source, "t"), None, None).read_all().num_rows == 10


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("links", [absolute, relative, chain, directory, over_a_linked_directory])
def test_a_file_behind_a_link_is_followed_as_without_the_link(end: Path, links: Links, version: str) -> None:
    link = links(end)
    with written(link, end, version) as writer, open_source(link, deletes=True) as source:
        follows(source, writer)


@pytest.mark.parametrize("version", ["1.4.4", VERSIONS[-1]])
@pytest.mark.parametrize("name", ["links/l.db", "middle/m.db", "real/x.db"])
def test_the_writer_may_have_opened_any_name_of_the_chain(end: Path, name: str, version: str) -> None:
    link = chain(end)
    with written(end.parents[1] / name, end, version) as writer, open_source(link, deletes=True) as source:
        follows(source, writer)


def test_of_several_logs_the_one_at_hand_is_followed(end: Path) -> None:
    """A writer of 1.x was killed; its log stays beside the link, where one of 2.x does not look."""
    link = absolute(end)
    with written(link, end, "1.4.4") as writer:
        writer.run("INSERT INTO t VALUES (11, 11)")
        writer.kill()
    assert Path(f"{link}.wal").exists()
    with Writer(link) as writer, open_source(link, deletes=True) as source:
        writer.run("CHECKPOINT")
        writer.run("INSERT INTO t VALUES (12, 12)")
        assert Path(f"{end}.wal").exists()
        assert set(source.rows(plan_of(source, "t"), None, None).read_all().column("id").to_pylist()) == {
            *range(10),
            12,
        }
        follows_on = source.open(plan_of(source, "t"))
        mark = deliver(follows_on, None).mark
        writer.run("DELETE FROM t WHERE id = 3")
        assert removed(follows_on, mark) == ([], [3])


def test_a_link_made_while_a_reader_runs_is_gone_over(end: Path) -> None:
    """The file is moved elsewhere while no writer runs, and a link takes its place."""
    with Writer(end) as writer:
        writer.run("CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT)")
        writer.run("INSERT INTO t VALUES (1, 1)")
    with open_source(end, deletes=True) as source:
        reader = source.open(plan_of(source, "t"))
        mark = deliver(reader, None).mark
        moved = end.parents[1] / "middle" / "moved.db"
        os.rename(end, moved)
        end.symlink_to(moved)
        with Writer(end) as writer:
            writer.run("INSERT INTO t VALUES (2, 2)")
            assert Path(f"{moved}.wal").exists()
            wait_until(lambda: 2 in deliver(reader, mark).column("id"), "the row to be read", 20.0)


@pytest.mark.parametrize("version", ["1.4.4", VERSIONS[-1]])
def test_the_log_beside_either_name_is_checked(end: Path, version: str) -> None:
    link = absolute(end)
    with written(link, end, version) as writer:
        writer.run("INSERT INTO t VALUES (11, 11)")
        assert check_file(link).frames > 0


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert len(names_of(tmp_path / "a")) < 50
