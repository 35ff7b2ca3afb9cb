"""What an error means: total, defaulting to stop, each with a remedy. [R1, R2]"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl

import pytest
from clickhouse_driver import errors as driver

from cdc.errors import Meaning, TargetError
from cdc.target.codes import KNOWN, verdict_on_code, verdict_on_status
from cdc.target.meaning import Closed, HttpStatus, ServerError, judge, plain, server_error, target_error


def test_a_code_that_nobody_knows_stops() -> None:
    verdict = verdict_on_code(424242)
    assert verdict.meaning is Meaning.STOP
    assert "not known to be temporary" in verdict.remedy


@pytest.mark.parametrize("code", sorted(KNOWN))
def test_every_known_code_has_a_remedy_that_is_a_sentence(code: int) -> None:
    remedy = verdict_on_code(code).remedy
    assert remedy[0].isupper()
    assert not remedy.endswith(".")


def test_what_retries_says_so_and_what_does_not_asks_for_an_act() -> None:
    for _, verdict in KNOWN.values():
        assert verdict.remedy.startswith("It is tried again") == (verdict.meaning is Meaning.RETRY)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (516, Meaning.STOP),  # authentication failed
        (81, Meaning.STOP),  # unknown database
        (60, Meaning.STOP),  # unknown table
        (16, Meaning.STOP),  # no such column
        (164, Meaning.STOP),  # readonly
        (497, Meaning.STOP),  # access denied
        (53, Meaning.STOP),  # type mismatch: a fact about the column, not about a row
        (201, Meaning.RETRY),  # quota
        (241, Meaning.RETRY),  # memory limit
        (252, Meaning.RETRY),  # too many parts
        (202, Meaning.RETRY),  # too many simultaneous queries
        (159, Meaning.RETRY),  # timeout
        (209, Meaning.RETRY),  # socket timeout
        (210, Meaning.RETRY),  # network
        (243, Meaning.RETRY),  # no space
        (236, Meaning.RETRY),  # shutting down
        (242, Meaning.RETRY),  # table is read-only: Keeper
        (999, Meaning.RETRY),  # Keeper
        (319, Meaning.RETRY),  # unknown status of insert
        (27, Meaning.POISON),  # cannot parse
        (469, Meaning.POISON),  # constraint
        (321, Meaning.POISON),  # out of range
        (349, Meaning.POISON),  # NULL where there can be none
    ],
)
def test_what_a_servers_code_means(code: int, meaning: Meaning) -> None:
    assert judge(ServerError(code, "text")).meaning is meaning
    assert judge(driver.ServerException("text", code)).meaning is meaning


def test_too_many_partitions_has_the_code_of_too_many_parts_and_another_meaning() -> None:
    text = "Too many partitions for single INSERT block (more than 100)"
    assert judge(ServerError(252, text)).meaning is Meaning.POISON
    assert judge(driver.ServerException(text, 252)).meaning is Meaning.POISON
    assert judge(ServerError(252, "Too many parts (600)")).meaning is Meaning.RETRY


@pytest.mark.parametrize(
    ("error", "meaning", "hint"),
    [
        (TimeoutError("timed out"), Meaning.RETRY, "timeouts"),
        (ConnectionRefusedError(111, "Connection refused"), Meaning.RETRY, "server runs"),
        (ConnectionResetError(104, "Connection reset by peer"), Meaning.RETRY, "network"),
        (BrokenPipeError(32, "Broken pipe"), Meaning.RETRY, "network"),
        (EOFError("Unexpected EOF"), Meaning.RETRY, "network"),
        (http.client.RemoteDisconnected("closed"), Meaning.RETRY, "network"),
        (http.client.IncompleteRead(b"half"), Meaning.RETRY, "network"),
        (http.client.BadStatusLine("garbage"), Meaning.STOP, "port"),
        (socket.gaierror(-2, "Name or service not known"), Meaning.RETRY, "host name"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), Meaning.RETRY, "network"),
        (OSError(errno.EBADF, "Bad file descriptor"), Meaning.RETRY, "network"),
        (OSError(errno.ENOSPC, "No space left on device"), Meaning.RETRY, "disk"),
        (OSError(errno.EMFILE, "Too many open files"), Meaning.STOP, "log"),
        (FileNotFoundError(2, "No such file", "ca.pem"), Meaning.STOP, "file"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), Meaning.STOP, "ca_file"),
        (ssl.SSLError(1, "tlsv13 alert certificate required"), Meaning.STOP, "cert_file"),
        (ssl.SSLError(1, "wrong version number"), Meaning.STOP, "port"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), Meaning.RETRY, "cert_file"),
        (driver.UnexpectedPacketFromServerError("not a hello"), Meaning.STOP, "port"),
        (driver.SocketTimeoutError("slow"), Meaning.RETRY, "timeouts"),
        (driver.NetworkError("gone"), Meaning.RETRY, "network"),
        (HttpStatus(502, "Bad Gateway"), Meaning.RETRY, "network"),
        (HttpStatus(503, ""), Meaning.RETRY, "network"),
        (HttpStatus(504, ""), Meaning.RETRY, "timeouts"),
        (HttpStatus(429, ""), Meaning.RETRY, "slowly"),
        (HttpStatus(401, ""), Meaning.STOP, "password"),
        (HttpStatus(404, ""), Meaning.STOP, "path"),
        (HttpStatus(418, "teapot"), Meaning.STOP, "not known"),
        (Closed(), Meaning.RETRY, "tried again"),
        (ValueError("a defect"), Meaning.STOP, "not known"),
    ],
)
def test_what_an_exception_means(error: Exception, meaning: Meaning, hint: str) -> None:
    verdict = judge(error)
    assert verdict.meaning is meaning
    assert hint in verdict.remedy


def test_every_http_status_has_a_meaning() -> None:
    assert {verdict_on_status(status).meaning for status in range(100, 600)} == {Meaning.RETRY, Meaning.STOP}


def test_the_error_names_operation_subject_problem_and_remedy() -> None:
    error = target_error(
        "insert into", "clickhouse://host:9000", driver.ServerException("DB::Exception: no", 60)
    )
    assert str(error) == (
        "cannot insert into clickhouse://host:9000: code 60: no. "
        "Run 'cdc schema apply', or set auto_create = true in [target]"
    )
    assert (error.code, error.meaning) == (60, Meaning.STOP)


def test_an_error_that_is_one_already_passes_unchanged() -> None:
    error = TargetError("read", "a block", "it ends early", "Ask again")
    assert target_error("query", "host", error) is error


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (
            "Code: 60, e.displayText() = DB::Exception: Table d.t doesn't exist., e.what() = DB::Exception\n",
            "Table d.t doesn't exist",
        ),
        (
            "Code: 60. DB::Exception: No table d.t. (UNKNOWN_TABLE) (version 24.8.4 (official build))",
            "No table d.t. (UNKNOWN_TABLE)",
        ),
        ("DB::Exception: Memory limit. Stack trace:\n\n0. 0x1\n1. 0x2", "Memory limit"),
    ],
)
def test_a_servers_text_is_shown_without_what_is_for_its_developers(said: str, problem: str) -> None:
    assert plain(said) == problem


def test_a_text_without_a_code_is_not_a_servers_error() -> None:
    assert server_error("<html>Bad gateway</html>") is None
    found = server_error("Code: 252, e.displayText() = DB::Exception: Too many parts")
    assert found is not None
    assert (found.code, found.text) == (252, "Too many parts")
