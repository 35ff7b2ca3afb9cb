"""A server that answers, and refuses: rows, space, writes, parts, memory; or applies and does not say so."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.faults import Rig
from tests.support.modern.faults import Fault, read_only, too_many_parts
from tests.support.modern.fixture import ModernServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("modern_server")  # before the rig: no fault is left over

SECONDS = 60.0
"""How long a fault lasts at most: it ends once it is told."""


@pytest.fixture(scope="module")
def target(modern_process: ModernServer) -> ModernServer:
    return modern_process


@pytest.fixture(scope="module")
def rig_options() -> dict[str, Any]:
    return {"backoff": "[0.5]"}


def refused(code: int, message: str) -> Fault:
    return Fault("refuse", times=None, for_seconds=SECONDS, code=code, message=message)


@pytest.mark.parametrize(
    ("name", "fault", "said"),
    [
        ("disk full", refused(243, "Cannot reserve 1.00 MiB, not enough space"), "free or add disk space"),
        ("table read-only", read_only(SECONDS), "check the server's Keeper"),
        ("too many parts", too_many_parts(SECONDS), "raise linger_ms"),
        ("out of memory", refused(241, "Memory limit (total) exceeded"), "give the server more memory"),
        ("user read-only", refused(164, "Cannot execute query in readonly mode"), "may insert"),
        (
            "password changed",
            refused(516, "Authentication failed"),
            "clickhouse_user and clickhouse_password",
        ),
        ("table away", refused(60, "Table does not exist"), "cdc schema apply"),
        ("an error nobody knows", refused(9999, "Something new"), "not known to be temporary"),
    ],
)
def test_a_refusal_is_said_with_its_remedy_and_waited_out(
    rig: Rig, modern_server: ModernServer, name: str, fault: Fault, said: str
) -> None:
    modern_server.fault(fault)
    message = rig.said()
    modern_server.clear_faults()
    assert said in message
    rig.settle(name, rig.recover(60.0), message)


@pytest.mark.parametrize("kind", ["drop_after", "drop_before"])
def test_an_insert_whose_answer_is_lost_is_sent_again(
    rig: Rig, modern_server: ModernServer, kind: str
) -> None:
    modern_server.fault(Fault("drop_after" if kind == "drop_after" else "drop_before", times=2))
    wait_until(lambda: modern_server.faults_waiting() == 0, "the inserts to be dropped")
    took = rig.recover()
    applied = "applied" if kind == "drop_after" else "not applied"
    rig.settle(f"connection dropped, insert {applied}, no answer", took, "none: it is sent again at once")


def test_rows_that_a_constraint_refuses_are_set_aside_and_the_others_arrive(
    rig: Rig, modern_server: ModernServer
) -> None:
    """Once the constraint is gone they are sent again, by themselves."""
    rig.query("ALTER TABLE DB.trades ADD CONSTRAINT odd CHECK broker_id != 3")
    try:
        wait_until(lambda: rig.failed_rows() > 0, "rows to be set aside", 60.0)
        message = rig.said()
    finally:
        rig.query("ALTER TABLE DB.trades DROP CONSTRAINT odd")
    took = rig.recover()
    wait_until(lambda: rig.failed_rows() == 0, "the failed rows to be sent again", 40.0)
    rig.settle("rows refused by a constraint, later taken", took, message)
