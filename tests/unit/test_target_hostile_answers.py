"""Whatever a server answers is rows or one error, within bounds. [S4]"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from cdc.change import Column
from cdc.config.endpoint import parse_endpoint
from cdc.config.redis import RedisOptions
from cdc.errors import StateError, TargetError
from cdc.state.redis_lease import RedisLease
from cdc.target import TargetOptions, Timeouts
from cdc.target.meaning import sensible
from cdc.target.native import Reader
from cdc.target.transport import dial, http, native, new_transport
from cdc.target.types import column_codec
from cdc.target.version import ServerVersion

OPTIONS = TargetOptions(database="d", timeouts=Timeouts(connect=10, send=10, receive=10))


@contextmanager
def answering(answer: bytes, repeated: bytes = b"") -> Iterator[int]:
    """The port of a server that answers whatever it is asked by `answer`, and then `repeated` for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def serve() -> None:
            listener.settimeout(0.1)
            while not stop.is_set():
                with suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(5)
                        connection.recv(1 << 16)
                        connection.sendall(answer)
                        while repeated and not stop.is_set():
                            connection.sendall(repeated)
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(1 << 16):  # else it is reset, and what was sent is lost
                            pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            stop.set()
            thread.join()


HELLO = b"\0\nClickHouse\1\1\xb2\xa9\3\3UTC\1h\1"  # revision 54450
EXCEPTION = b"\2" + (b"\x3c\0\0\0\1e\1e\1s\1") * 100_000  # each of these says that another is nested in it


@pytest.mark.parametrize(
    "answer",
    [b"\2" + EXCEPTION[1:], b"\0" + b"\xff" * 100, b"\2\x3c\0\0\0\2\xff\xfe", b"\x99", HELLO + EXCEPTION],
    ids=["nested", "lengths", "no UTF-8", "unknown", "nested later"],
)
def test_a_malicious_native_answer_is_one_error(answer: bytes) -> None:
    with answering(answer) as port:
        transport = new_transport(parse_endpoint(f"clickhouse://127.0.0.1:{port}/d"), OPTIONS)
        with pytest.raises(TargetError):
            transport.execute("SELECT 1")
        transport.close()


BLOCK = b"\1\0\1\0\2\xff\xff\xff\xff\0\1\1"  # a packet of data: one column, one row
NUMBERS = BLOCK[:-1] + b"\x80\x80\4" + b"\1x\6UInt64" + b"\0" * (8 << 16)


@pytest.mark.parametrize(
    ("answer", "repeated"),
    [(BLOCK + b"\xff\xff\xff\xff\x7f", b"x" * 65536), (b"", NUMBERS)],
    ids=["one block", "blocks"],
)
def test_an_endless_native_answer_is_one_error(
    answer: bytes, repeated: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "MAX_ANSWER_BYTES", 2 << 20)
    codec = column_codec(Column("x", "UBIGINT", nullable=False), ServerVersion(26, 9, 1))
    with answering(HELLO + answer, repeated) as port:
        transport = new_transport(parse_endpoint(f"clickhouse://127.0.0.1:{port}/d"), OPTIONS)
        with pytest.raises(TargetError, match="longer than any may be"):
            for _ in transport.query("SELECT 1", [codec]):
                pass
        transport.close()


TINY = BLOCK + b"\1x\6UInt64" + b"\0" * 8


def test_many_tiny_blocks_cost_what_they_are_and_not_their_square(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = 0

    class Counting(Reader):
        def __init__(self, data: bytes) -> None:
            nonlocal tried
            tried += len(data)
            super().__init__(data)

    monkeypatch.setattr(native, "Reader", Counting)
    blocks = 20_000
    codec = column_codec(Column("x", "UBIGINT", nullable=False), ServerVersion(26, 9, 1))
    with answering(HELLO + TINY * blocks + b"\5") as port:
        transport = new_transport(parse_endpoint(f"clickhouse://127.0.0.1:{port}/d"), OPTIONS)
        assert sum(len(batch) for batch in transport.query("SELECT 1", [codec])) == blocks
        transport.close()
    assert tried < 2 * blocks * (native._FIRST_PIECE_BYTES + len(TINY))


@pytest.mark.parametrize(
    ("scheme", "answer"),
    [
        ("clickhouse", HELLO + BLOCK[:-1] + b"\x80\x80\4" + b"\1x\6UInt64"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
    ],
    ids=["native", "http", "http of a length"],
)
def test_an_answer_that_trickles_is_given_up(
    scheme: str, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes well before the time-out of a socket."""
    monkeypatch.setattr(dial, "SLOWEST_BYTES", 1e9)
    codec = column_codec(Column("x", "UBIGINT", nullable=False), ServerVersion(26, 9, 1))
    options = TargetOptions(database="d", timeouts=Timeouts(connect=10, send=10, receive=1))
    with answering(answer, b"\0") as port:
        transport = new_transport(parse_endpoint(f"{scheme}://127.0.0.1:{port}/d"), options)
        with pytest.raises(TargetError, match=r"in time|slowly"):
            for _ in transport.query("SELECT 1", [codec]):
                pass
        transport.close()


def test_a_body_shorter_than_its_length_is_an_error() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n26.9.1.1\n") as port:
        transport = new_transport(parse_endpoint(f"http://127.0.0.1:{port}/d"), OPTIONS)
        with pytest.raises(TargetError):
            transport.version()
        transport.close()


@pytest.mark.parametrize(
    ("answer", "repeated"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 500 No\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
        (b"\xff\xfe\0", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe", b""),
    ],
    ids=["endless", "endless refusal", "chunk", "length", "headers", "no HTTP", "no UTF-8"],
)
def test_a_malicious_http_answer_is_one_error(
    answer: bytes, repeated: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER_BYTES", 4 << 20)
    with answering(answer, repeated) as port:
        transport = new_transport(parse_endpoint(f"http://127.0.0.1:{port}/d"), OPTIONS)
        with pytest.raises(TargetError):
            transport.version()
        transport.close()


@pytest.mark.parametrize("answer", [b"$2\r\n\xff\xfe\r\n", b"+OK\r\n", b"*0\r\n", b"$-1\r\n", b"\xff\r\n"])
def test_a_malicious_answer_about_the_lease_is_one_error(answer: bytes) -> None:
    with answering(answer) as port:
        options = RedisOptions(url=f"redis://127.0.0.1:{port}", timeout_seconds=5)
        lease = RedisLease(options, "source")
        with pytest.raises(StateError):
            lease.acquire()


@pytest.mark.parametrize("error", [UnicodeDecodeError("utf-8", b"", 0, 1, ""), IndexError()])
def test_whatever_decoding_raises_is_one_error(error: Exception) -> None:
    def decoding() -> Iterator[int]:
        yield 1
        raise error

    with pytest.raises(TargetError, match="makes no sense"):
        list(sensible(decoding(), "it"))
