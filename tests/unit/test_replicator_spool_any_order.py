"""Outages, restarts and kills in any order: every change arrives, and the newest wins. [R4, R5]"""

from __future__ import annotations

import copy
import threading

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.replication import MemoryMarks
from tests.support.spooling import Rig

pytestmark = pytest.mark.long


Step = st.sampled_from(["insert", "update", "delete", "away", "back", "read", "restart", "kill"])


@settings(
    max_examples=100,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(steps=st.lists(Step, min_size=3, max_size=14))
def test_whatever_fails_and_restarts_every_change_arrives_and_the_newest_wins(steps: list[str]) -> None:
    """After a kill the store is what it was a moment before, and the target keeps what it was sent."""
    rig, key = Rig(), 0
    rig.insert(1000)
    stack = rig.running()
    stack.__enter__()
    rig.wait_delivered()  # a table of which nothing was delivered waits for the target to be there
    try:
        for step in steps:
            match step:
                case "insert":
                    rig.insert(*range(key + 1, key + 70))
                    key += 70
                case "update":
                    rig.source.commit((1000, False))
                case "delete":
                    rig.source.commit((key, True))
                case "away" | "back":
                    rig.target.away = step == "away"
                case "read":
                    rig.wait_read()
                case "restart":
                    stack.__exit__(None, None, None)
                    stack = rig.running()
                    stack.__enter__()
                case "kill":
                    with rig.marks.lock:
                        stored = MemoryMarks(list(rig.marks.decisions), entries=copy.copy(rig.marks.entries))
                    stack.__exit__(None, None, None)
                    rig.marks = stored
                    stack = rig.running()
                    stack.__enter__()
        rig.target.away = False
        rig.wait_delivered()
    finally:
        stack.__exit__(None, None, None)
    newest = {each.key: each for each in rig.source.history}
    assert rig.target.final() == newest
    assert rig.in_order()
    assert threading.active_count() < 20
