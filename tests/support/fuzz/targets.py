"""What reads bytes that are not ours, with good inputs to begin with, and the errors it declares."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from cdc.change import Column
from cdc.clock import SystemClock
from cdc.config.loading import load
from cdc.errors import CdcError
from cdc.observe.status import Status, read_status
from cdc.source.file.integrity import check_file
from cdc.source.file.pin import Pinner
from cdc.source.format import frames
from cdc.source.format.decode import FrameDecoder
from cdc.source.format.frames import NotUnderstood
from cdc.source.format.headers import HEADER_SIZE, HEADERS_SIZE, checksum
from cdc.source.format.layouts import NotDecodable
from cdc.source.format.log import LogWalk, parse_log_header
from cdc.supervisor.control import Answer, ControlServer, Request
from cdc.target.meaning import SENSELESS, HttpStatus, ServerError, sensible
from cdc.target.native import decode_blocks
from cdc.target.transport.http import _answer
from cdc.target.types import column_codec
from cdc.target.version import ServerVersion

TARGETS = ("log", "frames", "decoder", "file", "control", "status", "config", "http", "native")


@dataclass(frozen=True)
class Target:
    """One reader of bytes."""

    name: str
    seeds: Sequence[bytes]
    run: Callable[[bytes], object]
    declared: tuple[type[BaseException], ...]


@contextlib.contextmanager
def targets(directory: Path) -> Iterator[dict[str, Target]]:
    """All of them, by name, with files in `directory`."""
    path = directory / "seed.db"
    _write(path)
    log = path.with_name("seed.db.wal").read_bytes()
    file = path.read_bytes()
    kinds = (frames.INSERT, frames.UPDATE, frames.DELETE)
    changes = [frame for frame in frames.read_frames(log, _header_size(log)) if frames.kind(frame) in kinds]
    control = _Control(directory / "control")
    status, config = directory / "status.json", directory / "cdc.toml"
    at = datetime(2026, 1, 1, tzinfo=UTC)
    written = Status(
        state="running",
        version="1",
        pid=1,
        process_start=1,
        started_at=at,
        updated_at=at,
        config="c",
        source="s",
        targets=("t",),
    )
    good_status = written.model_dump_json(indent=2).encode()
    good_config = Path("config/duckdb_python_config.toml").read_bytes()
    version = ServerVersion.parse("26.9.1.1")
    codecs = [column_codec(Column("a", kind, True), version) for kind in ("BIGINT", "VARCHAR", "INTEGER[]")]

    def native(data: bytes) -> object:
        return list(sensible(decode_blocks(data, codecs), "it"))

    made = [
        Target("log", [log], _log, ()),
        Target("frames", [*frames.read_frames(log, _header_size(log))], _frame, (NotUnderstood,)),
        Target("decoder", changes, _Decoder(), (NotDecodable,)),
        Target(
            "file", [file, file[: HEADERS_SIZE + 300_000]], _File(directory / "fuzzed.db", log), (CdcError,)
        ),
        Target("control", _CONTROL, control.run, ()),
        Target("status", [good_status], _Written(status, read_status), (CdcError,)),
        Target("config", [good_config], _Written(config, lambda p: load(p, {})), (CdcError,)),
        Target("http", _HTTP, _http, (http.client.HTTPException, ServerError, HttpStatus, *SENSELESS)),
        Target(
            "native", _NATIVE, lambda data: list(sensible(decode_blocks(data, codecs), "it")), (CdcError,)
        ),
    ]
    yield {target.name: target for target in made}


def _write(path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS w (STORAGE_VERSION 'v1.3.0'); USE w")
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, s VARCHAR)")
        connection.execute("INSERT INTO t SELECT i, 'x' || i FROM range(5000) r(i); CHECKPOINT")
        connection.execute("INSERT INTO t VALUES (9000, 'new')")
        connection.execute("UPDATE t SET s = 'other' WHERE id = 3")
        connection.execute("DELETE FROM t WHERE id = 4")
        connection.execute("CREATE TABLE other (x INTEGER); ALTER TABLE other ADD COLUMN y INTEGER")


def _header_size(log: bytes) -> int:
    header = parse_log_header(log)
    assert header is not None, "DuckDB wrote it"
    return header.size


def _log(data: bytes) -> None:
    def read_at(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    walk = LogWalk((1, 1), data[:512])
    walk.look(len(data) // 2, read_at)
    end = walk.look(len(data), read_at)
    assert end is None or end.end <= len(data)


def _frame(data: bytes) -> None:
    """The parts of a frame, made sound where its checksum is all that is wrong with it."""
    if len(data) < frames.BODY:
        return
    sound = frames.make_frame(data[16:])
    for read in (frames.used_table, frames.altered_table, frames.inserted_rows, frames.inserted_columns):
        with contextlib.suppress(NotUnderstood):
            read(sound)
    frames.used_table(data)


class _Decoder:
    """A frame whose checksum fits: the layout must be found wrong, or values come out."""

    def __init__(self) -> None:
        self._decoder = FrameDecoder(["BIGINT", "VARCHAR"])

    def __call__(self, data: bytes) -> None:
        found = self._decoder.changes([frames.make_frame(data[frames.FRAME_HEADER.size :])])
        for array in found.inserts:
            array.validate(full=True)


@dataclass
class _File:
    path: Path
    log: bytes

    def __call__(self, data: bytes) -> None:
        raw = bytearray(data)
        for start in (0, HEADER_SIZE, 2 * HEADER_SIZE):
            if len(raw) >= HEADERS_SIZE:
                sum_ = checksum(bytes(raw[start + 8 : start + HEADER_SIZE]))
                struct.pack_into("<Q", raw, start, sum_)
        self.path.write_bytes(raw)
        self.path.with_name(self.path.name + ".wal").write_bytes(self.log if len(data) % 2 else data)
        check_file(self.path)
        with Pinner(self.path, SystemClock()).pin() as pin:
            pin.read(HEADERS_SIZE, 1 << 18)


@dataclass
class _Written:
    path: Path
    read: Callable[[Path], object]

    def __call__(self, data: bytes) -> None:
        self.path.write_bytes(data)
        self.read(self.path)


_CONTROL = [
    b'{"command": "status", "name": "writer", "token": "t"}',
    b'{"command": "stop", "name": null, "deep": [[[[1]]], {"a": {"b": 1.5e3}}], "t": "\\ud800\\u00e9"}',
]


class _Control:
    """The control socket's own answers, and the loop's for what it understands."""

    def __init__(self, directory: Path) -> None:
        self._server = ControlServer(directory, unix=False)
        queue: Any = self._server._requests
        queue.put = self._handle

    def run(self, data: bytes) -> None:
        json.dumps(self._server._answer(data))

    def _handle(self, waiting: tuple[Request, Future[Answer]]) -> None:
        waiting[1].set_result({"ok": True})


_HTTP = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n26.9\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n26.9\n\r\n0\r\n\r\n",
    b"HTTP/1.1 500 Error\r\nX-ClickHouse-Exception-Code: 60\r\nContent-Length: 30\r\n\r\n"
    b"Code: 60. DB::Exception: no (x)",
    b"HTTP/1.1 200 OK\r\nX-ClickHouse-Exception-Tag: tag\r\nContent-Length: 60\r\n\r\n"
    b"rows\r\n__exception__\r\ntag\r\nCode: 60. DB::Exception: no\r\n29 tag\r\n",
]


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)

    def gettimeout(self) -> float:
        return 10.0

    def close(self) -> None:
        pass


def _http(data: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", 9)
    fresh: Any = connection
    fresh.sock, fresh._HTTPConnection__state = _Socket(data), "Request-sent"
    _answer(connection)


_NATIVE = [
    b"\3\2"
    b"\1a\x0fNullable(Int64)\0\1" + struct.pack("<qq", 1, -1) + b"\1a\x10Nullable(String)\0\0\1x\2yz"
    b"\1a\x16Array(Nullable(Int32))" + struct.pack("<QQ", 1, 2) + b"\0\1" + struct.pack("<ii", 1, 2)
]
