"""What an error of the target means: one total function from any exception to a TargetError. [R1, R2]"""

from __future__ import annotations

import errno
import http.client
import re
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import TypeVar

from clickhouse_driver import errors as driver

from cdc.errors import TargetError
from cdc.target import codes
from cdc.target.codes import ErrorVerdict, verdict_on_code, verdict_on_status


class ServerError(Exception):
    """ClickHouse answered with an exception: its code, and its text without a stack trace."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"code {self.code}: {self.text}"


_CODE = re.compile(r"Code: (\d+)[.,]")


def server_error(text: str, code: str | None = None) -> ServerError | None:
    """The exception that `text` tells of; None where it is not ClickHouse's."""
    if code is None and (found := _CODE.search(text)) is not None:
        code = found[1]
    return None if code is None else ServerError(int(code), plain(text))


class HttpStatus(Exception):
    """An HTTP server answered with a status and no ClickHouse code."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text

    def __str__(self) -> str:
        return f"HTTP status {self.status}: {self.text}" if self.text else f"HTTP status {self.status}"


class Closed(Exception):
    """The transport was closed, by any thread, before or while it was used."""

    def __str__(self) -> str:
        return "the connection was closed"


_UNREACHABLE = frozenset(
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.ENOBUFS, errno.EBADF}
)
"""EBADF: the socket was closed by another thread between two calls."""


def judge(error: BaseException) -> ErrorVerdict:
    """The verdict on any exception that a transport can meet. Total: what it does not know is STOP."""
    match error:
        case TargetError():
            return ErrorVerdict(error.meaning, error.remedy)
        case ServerError():
            return verdict_on_code(error.code, error.text)
        case driver.Error():
            return verdict_on_code(error.code or 0, str(error))
        case HttpStatus():
            return verdict_on_status(error.status)
        case TimeoutError():
            return codes.SLOW
        case ssl.SSLError():
            return _judge_tls(error)
        case socket.gaierror():
            return codes.ADDRESS
        case ConnectionError() | http.client.IncompleteRead() | EOFError() | Closed():
            return codes.NETWORK
        case http.client.HTTPException():
            return codes.PORT
        case FileNotFoundError() | PermissionError():
            return codes.FILE
        case OSError() if error.errno in _UNREACHABLE:
            return codes.NETWORK
        case OSError() if error.errno == errno.ENOSPC:
            return codes.DISK
        case _:
            return codes.UNKNOWN


T = TypeVar("T")

SENSELESS = (RecursionError, ValueError, IndexError, OverflowError, MemoryError, struct.error)
"""What reading an answer raises that no ClickHouse gives: exceptions nested 100,000 deep, say."""


def senseless(error: BaseException) -> driver.Error:
    """One of `SENSELESS`, as what is met where the other side does not speak the protocol."""
    return driver.UnexpectedPacketFromServerError(f"its answer makes no sense ({type(error).__name__})")


def sensible(batches: Iterator[T], subject: object) -> Iterator[T]:
    """`batches` as they are decoded; bytes that make no sense are one error of `subject`.

    Raises:
        TargetError: they make none.
    """
    try:
        yield from batches
    except SENSELESS as error:
        raise target_error("query", subject, senseless(error)) from error


def target_error(operation: str, subject: object, error: BaseException) -> TargetError:
    """`error`, met while doing `operation` to `subject`, as the error that the rest of the program knows."""
    if isinstance(error, TargetError):
        return error
    verdict = judge(error)
    code = error.code if isinstance(error, ServerError | driver.Error) else None
    return TargetError(
        operation,
        subject,
        _problem(error),
        verdict.remedy,
        meaning=verdict.meaning,
        code=code,
        relief=None if code is None else codes.relief_of_code(code),
    )


def _problem(error: BaseException) -> str:
    """What went wrong, in one line without a stack trace."""
    match error:
        case driver.ServerException():
            return f"code {error.code}: {plain(error.message)}"
        case TimeoutError():
            return "the server did not answer in time"
        case EOFError() | http.client.IncompleteRead():
            return "the server closed the connection in the middle of its answer"
        case ConnectionRefusedError():
            return "the connection was refused"
        case ssl.SSLError():
            return f"TLS: {one_line(_TLS_NOISE.sub('', str(error.strerror or error)))}"
        case OSError() if error.strerror:
            named = f": {error.filename}" if error.filename else ""
            return one_line(error.strerror) + named
        case _:
            return one_line(str(error)) or type(error).__name__


_NOISE = re.compile(
    r"\.?\s*Stack trace:.*\Z"
    r"|\bCode: \d+[.,]\s*(?:e\.displayText\(\) = )?(?=DB::)"
    r"|\b(?:DB::Exception|DB::NetException|DB::ErrnoException|e\.displayText\(\) =):?\s*"
    r"|,? ?\(version [^()]*(?:\([^)]*\))?\)"
    r"|,\s*e\.what\(\) = .*\Z",
    re.DOTALL,
)


_TLS_NOISE = re.compile(r"^\[[^]]*\]|\(_ssl\.c:\d+\)")


def plain(message: str) -> str:
    """A server's message without what only its developers need: stack trace, version, exception class."""
    return one_line(_NOISE.sub("", message))


def one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(". ")


def _judge_tls(error: ssl.SSLError) -> ErrorVerdict:
    text = str(error).lower()
    if "certificate required" in text or "alert handshake failure" in text:
        return codes.CLIENT_CERTIFICATE
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return codes.HUNG_UP  # old servers say no more to a client without a certificate; nor do dying ones
    if "wrong version number" in text or "record layer failure" in text:
        return codes.PORT
    return codes.TLS
