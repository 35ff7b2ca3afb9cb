"""[P7 R12]"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from cdc.source.file.integrity import check_file
from cdc.source.format.headers import HEADERS_SIZE, parse_headers
from cdc.source.format.log import parse_log_header
from tests.support.waiting import wait_until

WRITER = """
import duckdb, sys
con = duckdb.connect(sys.argv[1], config={"checkpoint_threshold": "200KB", "threads": 1})
con.execute("CREATE TABLE IF NOT EXISTS trades (id INTEGER, text VARCHAR)")
number = 0
while True:
    number += 1
    con.execute("INSERT INTO trades SELECT i, md5(i::VARCHAR) FROM range(?) r(i)", [1 + number * 977 % 30000])
    if number % 7 == 0: con.execute("DELETE FROM trades WHERE id % 3 = 0")
    print(number, flush=True)
"""


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with free blocks in its middle, and a log, as a killed writer leaves them."""
    path = tmp_path_factory.mktemp("integrity") / "trades.duckdb"
    script = """
import duckdb, os, sys
con = duckdb.connect(sys.argv[1], config={"threads": 1})
con.execute("CREATE TABLE gone AS SELECT i, md5(i::VARCHAR) AS t FROM range(100000) r(i)")
con.execute("CHECKPOINT")
con.execute("CREATE TABLE kept AS SELECT i, md5(i::VARCHAR) AS t FROM range(100000) r(i)")
con.execute("CHECKPOINT")
con.execute("DROP TABLE gone")
con.execute("CHECKPOINT")
for number in range(50): con.execute("INSERT INTO kept VALUES (?, 'logged')", [number])
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    return path


@pytest.fixture
def path(master: Path, tmp_path: Path) -> Path:
    for file in master.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / master.name


def log_of(path: Path) -> Path:
    return path.with_name(path.name + ".wal")


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def blocks_of(path: Path) -> tuple[int, int]:
    """The number of blocks, and their size."""
    active = parse_headers(path.read_bytes()[:HEADERS_SIZE], path).active
    assert active is not None
    return active.block_count, active.block_size


def opens(path: Path) -> bool:
    """What DuckDB itself says, of every block and of the log."""
    try:
        with duckdb.connect(str(path)) as connection:
            connection.execute("SELECT max(i), max(t) FROM kept")
    except duckdb.Error:
        return False
    return True


def test_a_sound_file_with_its_log_is_sound(path: Path) -> None:
    checked = check_file(path)
    assert checked.sound
    assert (checked.blocks > 5, checked.free_blocks > 5, checked.frames) == (True, True, 150)


def test_a_changed_byte_is_damage_in_every_block_that_is_reached_and_in_no_other(path: Path) -> None:
    count, size = blocks_of(path)
    before = check_file(path)
    named = 0
    for block in range(count):
        offset = HEADERS_SIZE + block * size + 1000
        if offset >= path.stat().st_size:
            continue
        flip(path, offset)
        problems = check_file(path).problems
        flip(path, offset)
        named += len(problems)
        assert all(problem.startswith(f"block {block} at byte") for problem in problems)
    assert named == before.blocks


@pytest.mark.parametrize("offset", [100, 4096 + 50, 8192 + 50])
def test_a_changed_byte_in_any_header_is_damage_as_it_is_to_duckdb(path: Path, offset: int) -> None:
    flip(path, offset)
    (problem,) = check_file(path).problems
    assert "does not match its checksum" in problem
    assert not opens(path)


def test_a_file_cut_off_is_damaged(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, size - 300_000)
    assert any("cut off" in problem for problem in check_file(path).problems)
    os.truncate(path, 5000)
    assert not check_file(path).sound


def frame_starts(path: Path) -> list[int]:
    log = log_of(path).read_bytes()
    header = parse_log_header(log)
    assert header is not None
    starts = [header.size]
    while starts[-1] < len(log):
        starts.append(starts[-1] + 16 + int.from_bytes(log[starts[-1] : starts[-1] + 8], "little"))
    return starts


@pytest.mark.parametrize(("byte", "field"), [(2, "size"), (9, "checksum"), (18, "payload")])
def test_a_changed_byte_in_the_log_is_damage_and_says_what_is_whole(
    path: Path, byte: int, field: str
) -> None:
    starts = frame_starts(path)
    assert len(starts) == 151
    flip(log_of(path), starts[76] + byte)
    assert check_file(path).problems == (
        f"trades.duckdb.wal: the frame at byte {starts[76]} is damaged; "
        f"commits are whole up to byte {starts[75]}",
    )
    assert opens(path) == (field == "size"), "DuckDB takes a wrong size for the end of the log"


@pytest.mark.parametrize("cut", [1, 5, 17, 30, 100, 1000])
def test_a_log_cut_off_is_a_commit_that_never_was(path: Path, cut: int) -> None:
    log = log_of(path)
    os.truncate(log, log.stat().st_size - cut)
    assert check_file(path).sound
    assert opens(path)


def test_a_log_of_another_database_is_damage(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.duckdb"
    script = (
        "import duckdb, os, sys; con = duckdb.connect(sys.argv[1]); con.execute('CREATE TABLE t (i INT)')"
    )
    subprocess.run([sys.executable, "-c", f"{script}; os._exit(0)", str(other)], check=True)
    os.replace(log_of(other), log_of(path))
    assert check_file(path).problems == ("trades.duckdb.wal belongs to another database",)


def test_what_is_no_database_is_damage_and_no_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"not a database" * 2000)
    assert check_file(tmp_path / "text").problems == ("it is not a DuckDB database",)
    missing = check_file(tmp_path / "missing")
    assert missing.sound
    assert missing.unchecked == ("there is no such file",)


def test_a_broken_free_list_is_damage(path: Path) -> None:
    def last_free_list(raw: bytes) -> int:
        active = parse_headers(raw, path).active
        assert active is not None
        return active.free_list & ((1 << 56) - 1)

    _, size = blocks_of(path)
    block = last_free_list(path.read_bytes()[:HEADERS_SIZE])
    flip(path, HEADERS_SIZE + block * size + 9)
    (problem,) = check_file(path).problems
    assert problem.endswith("it holds the free list")


def run_writer(path: Path, until: Callable[[int], bool]) -> subprocess.Popen[bytes]:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    for line in writer.stdout:
        if until(int(line)):
            break
    return writer


@pytest.mark.parametrize("seed", range(4))
def test_whenever_a_writer_is_killed_its_file_is_sound(tmp_path: Path, seed: int) -> None:
    path, chance = tmp_path / "trades.duckdb", random.Random(seed)
    for _ in range(3):
        stop = chance.randrange(3, 25)
        writer = run_writer(path, lambda number, stop=stop: number >= stop)  # type: ignore[misc]
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert writer.stdout is not None
        writer.stdout.close()
        assert check_file(path).problems == ()


def test_a_file_that_is_being_written_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "trades.duckdb"
    writer = run_writer(path, lambda number: number >= 5)
    try:
        iterations = set()

        def checked() -> bool:
            assert check_file(path).problems == ()
            active = parse_headers(path.read_bytes()[:HEADERS_SIZE], path).active
            assert active is not None
            iterations.add(active.iteration)
            return len(iterations) >= 4

        wait_until(checked, "four checkpoints were checked")
    finally:
        writer.kill()
        writer.wait()
        assert writer.stdout is not None
        writer.stdout.close()
