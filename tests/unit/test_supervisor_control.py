import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cdc.errors import CdcError, StateError
from cdc.supervisor import control
from cdc.supervisor.control import Answer, ControlServer, Request, ask


def handle(request: Request) -> Answer:
    if request["command"] == "fail":
        raise CdcError("start", request["name"], "it is not configured", "There are: writer.")
    return {"echo": request["command"]}


@contextmanager
def serving(directory: Path, unix: bool | None) -> Iterator[None]:
    """A server whose requests are answered, as the supervisor's loop does it."""
    done = threading.Event()
    with ControlServer(directory, unix=unix) as server:

        def loop() -> None:
            while not done.wait(0.01):
                server.serve(handle)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@pytest.fixture(params=[True, False], ids=["unix", "tcp"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("c")
    with serving(directory, request.param):
        yield directory


def test_a_request_is_answered(directory: Path) -> None:
    assert ask(directory, {"command": "status"}) == {"echo": "status"}


def test_a_refusal_says_why(directory: Path) -> None:
    with pytest.raises(CdcError, match=r"it is not configured\. There are: writer\."):
        ask(directory, {"command": "fail", "name": "wrong"})


def test_only_its_owner_may_read_where_it_listens(directory: Path) -> None:
    assert all(path.stat().st_mode & 0o077 == 0 for path in directory.iterdir())


def raw(directory: Path, line: bytes) -> bytes:
    address = json.loads((directory / "control.json").read_text())["address"]
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(10)
        connection.connect(address if isinstance(address, str) else tuple(address))
        connection.sendall(line)
        return connection.recv(1 << 16)


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"[1]\n",
        b"\xff\xfe\n",
        b"[" * 60_000 + b"\n",
        b'{"token": "\\ud800", "command": 1' + b"\n",
    ],
)
def test_nonsense_is_refused_and_the_next_caller_is_served(directory: Path, line: bytes) -> None:
    assert b'"ok": false' in raw(directory, line)
    assert ask(directory, {"command": "status"}) == {"echo": "status"}


def test_a_caller_who_sends_too_much_is_hung_up_on(directory: Path) -> None:
    with suppress(ConnectionResetError, BrokenPipeError):
        assert raw(directory, b"x" * (1 << 18)) == b""
    assert ask(directory, {"command": "status"}) == {"echo": "status"}


def test_a_caller_who_says_nothing_does_not_keep_others_out_for_long(directory: Path) -> None:
    address = json.loads((directory / "control.json").read_text())["address"]
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as silent:
        silent.connect(address if isinstance(address, str) else tuple(address))
        assert ask(directory, {"command": "status"}) == {"echo": "status"}


def test_without_its_token_a_tcp_caller_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, unix=False):
        assert b"the token is wrong" in raw(tmp_path, b'{"command": "status", "token": "guess"}\n')
        assert b"the token is wrong" in raw(tmp_path, b'{"command": "status"}\n')


@pytest.mark.parametrize("token", ["\u00e9", "\ud800", ""])
def test_a_token_of_any_letters_is_wrong_and_the_next_caller_is_served(tmp_path: Path, token: str) -> None:
    with serving(tmp_path, unix=False):
        line = json.dumps({"command": "status", "token": token}).encode() + b"\n"
        assert b"the token is wrong" in raw(tmp_path, line)
        assert ask(tmp_path, {"command": "status"}) == {"echo": "status"}


def test_a_caller_of_a_byte_now_and_then_has_no_more_time_than_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "CALLER_SEC", 0.5)
    with serving(tmp_path, unix=True), socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(tmp_path / "control.sock"))
        began = time.monotonic()
        with suppress(BrokenPipeError):
            while time.monotonic() - began < 30:
                slow.sendall(b" ")
                time.sleep(0.1)
        assert time.monotonic() - began < 20
        assert ask(tmp_path, {"command": "status"}) == {"echo": "status"}


def test_a_directory_too_deep_for_a_unix_socket_has_one_all_the_same_and_no_tcp(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with serving(deep, unix=None):
        assert json.loads((deep / "control.json").read_text())["address"] == str(deep / "control.sock")
        assert ask(deep, {"command": "status"}) == {"echo": "status"}


def test_where_no_supervisor_runs_the_remedy_is_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"none runs there\. Start it with 'cdc supervise'"):
        ask(tmp_path, {"command": "status"})


def test_what_a_killed_supervisor_left_is_no_supervisor(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    (tmp_path / "control.json").write_text(json.dumps({"address": address, "token": "t", "pid": 1}))
    with pytest.raises(StateError, match="refused"):
        ask(tmp_path, {"command": "status"})


def test_nothing_remains_when_the_supervisor_ends(tmp_path: Path) -> None:
    with serving(tmp_path, unix=True):
        pass
    assert list(tmp_path.iterdir()) == []
