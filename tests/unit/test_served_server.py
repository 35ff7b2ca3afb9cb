"""What a server says of itself tells a restart from another database, and two servers from one."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from cdc.errors import Meaning, SourceError, SourceReplaced
from cdc.source.served.client import Away, Client, Connection, Refused
from cdc.source.served.server import Server

ADDRESS = "quack://127.0.0.1:9494"


class Answering:
    """A connection to a server that says the same of itself all the time."""

    def __init__(self, **said: Any) -> None:
        self.said = {
            "database": "t",
            "path": "/d/t.db",
            "version": "v1.5.5",
            "started": 1,
            "chunks": 12,
            **said,
        }
        self.fails: BaseException | None = None
        self.closed = False

    def ask(self, sql: str) -> pa.Table:
        if self.fails is not None:
            raise self.fails
        return pa.Table.from_pylist([self.said])

    def cancel(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def test_a_restarted_server_is_the_next_generation() -> None:
    server = Server(ADDRESS)
    server.greet(Answering())
    server.greet(Answering())
    assert server.generation == 0
    server.greet(Answering(started=2))
    assert server.generation == 1


def test_a_server_that_comes_back_after_another_is_one_of_two() -> None:
    server = Server(ADDRESS)
    server.greet(Answering(started=1))
    server.greet(Answering(started=2))
    with pytest.raises(SourceError, match="two servers answer there in turn") as caught:
        server.greet(Answering(started=1))
    assert caught.value.meaning is Meaning.RETRY


@pytest.mark.parametrize("other", [{"path": "/d/other.db"}, {"database": "other"}])
def test_another_database_is_refused(other: dict[str, str]) -> None:
    server = Server(ADDRESS)
    server.greet(Answering())
    with pytest.raises(SourceReplaced, match="another database answers there"):
        server.greet(Answering(**other, started=2))
    assert server.facts.path == "/d/t.db"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"path": None}, "is in memory"),
        ({"path": ":memory:"}, "is in memory"),
        ({"chunks": 1}, "fit one response"),
    ],
)
def test_a_server_that_cannot_be_read_from_is_refused(said: dict[str, Any], problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        Server(ADDRESS).greet(Answering(**said))


def test_a_connection_that_the_server_forgot_is_replaced_by_a_new_one_that_is_greeted() -> None:
    made: list[Answering] = []
    greeted: list[Connection] = []

    def connect() -> Connection:
        made.append(Answering())
        return made[-1]

    client = Client(ADDRESS, "secret", connect, greeted.append)
    client.ask("SELECT 1")
    client.ask("SELECT 1")
    assert len(made) == len(greeted) == 1
    made[0].fails = Away("it was restarted", stale=True)
    client.ask("SELECT 1")
    assert len(made) == len(greeted) == 2
    assert made[0].closed
    client.close()
    assert made[1].closed


def test_a_connection_whose_answer_was_not_waited_for_is_closed() -> None:
    made = Answering()
    client = Client(ADDRESS, "secret", lambda: made, lambda connection: None)
    made.fails = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        client.ask("SELECT 1")
    assert made.closed


def test_errors_say_what_to_do_and_never_the_token() -> None:
    made = Answering()
    client = Client(ADDRESS, "secret", lambda: made, lambda connection: None)
    made.fails = Away("Post http://secret@host: connection refused")
    with pytest.raises(SourceError, match=r"no answer: Post http://\*\*\*@host.*Start the writer") as caught:
        client.ask("SELECT 1")
    assert caught.value.meaning is Meaning.RETRY
    made.fails = Refused("Authentication failed")
    with pytest.raises(SourceError, match="refuses the token") as caught:
        client.ask("SELECT 1")
    assert caught.value.meaning is Meaning.STOP
