"""A loop whose table in the target is another than before opens it again; a doubt is told."""

from __future__ import annotations

from dataclasses import replace

from cdc.change import TableId, TablePlan
from cdc.errors import Meaning, TargetError
from cdc.replicator.target_watch import Opened, TargetWatch, Watched
from cdc.sighting import Known, Sighting
from tests.support.replication import PLAN, MemoryTarget

SEEN = Sighting("a", uuid="1", rows=5, parts={"all": (1, 9)}, reached=9, uptime=100)


class Loop:
    def __init__(self) -> None:
        self.watched = Watched(PLAN, Known({}).with_(SEEN), True, Opened.YES)
        self.opened_again = 0

    def reload(self) -> None:
        self.opened_again += 1


class Scene:
    def __init__(self) -> None:
        self.target, self.loop, self.doubts = MemoryTarget(), Loop(), list[tuple[TableId, str]]()
        self.watch = TargetWatch(
            self.target,
            lambda table, unseen: self.doubts.append((table, unseen.reason)),
            lambda table, why: self.doubts.append((table, why)),
        )
        self.look(SEEN)

    def look(self, found: Sighting | None) -> None:
        self.target.sighting = lambda plan: found
        self.watch.look([self.loop])


def test_a_table_that_is_as_it_was_is_left_alone() -> None:
    scene = Scene()
    scene.look(replace(SEEN, rows=9, parts={"all": (1, 12)}, uptime=103))
    assert (scene.loop.opened_again, scene.doubts) == (0, [])


def test_another_table_and_one_that_is_gone_or_empty_are_opened_again() -> None:
    for found in (None, replace(SEEN, uuid="2"), replace(SEEN, rows=0, parts={})):
        scene = Scene()
        scene.look(found)
        assert scene.loop.opened_again == 1


def test_a_table_that_is_set_up_is_not_interrupted_and_one_that_is_waited_for_is_opened_once_there() -> None:
    scene = Scene()
    scene.loop.watched = replace(scene.loop.watched, state=Opened.NO)
    scene.look(None)
    scene.loop.watched = replace(scene.loop.watched, state=Opened.GONE)
    scene.look(None)
    assert scene.loop.opened_again == 0
    scene.look(SEEN)
    assert scene.loop.opened_again == 1


def test_a_table_that_was_opened_while_the_target_was_asked_is_not_judged_by_what_was_known_before() -> None:
    scene = Scene()

    def opened_meanwhile(plan: TablePlan) -> Sighting:
        scene.loop.watched = replace(scene.loop.watched, known=Known({}).with_(replace(SEEN, uuid="2")))
        return replace(SEEN, uuid="2")

    scene.target.sighting = opened_meanwhile
    scene.watch.look([scene.loop])
    assert scene.loop.opened_again == 0


def test_a_lost_view_is_made_again() -> None:
    scene = Scene()
    scene.look(replace(SEEN, view=False))
    scene.look(replace(SEEN, view=False))
    assert scene.loop.opened_again == 1  # once: it may not be ours to make


def test_rows_that_were_taken_away_another_server_and_a_start_of_the_same_are_doubts() -> None:
    for found, words in (
        (replace(SEEN, parts={"all": (4, 9)}), "taken away"),
        (replace(SEEN, host="b"), "the target is b, and was a"),
        (replace(SEEN, uptime=3), "started anew"),
    ):
        scene = Scene()
        scene.look(found)
        [(table, why)] = scene.doubts
        assert (table, scene.loop.opened_again) == (PLAN.table, 0)
        assert words in why


def test_rows_that_are_taken_away_before_the_first_look_are_a_doubt() -> None:
    scene = Scene()
    opened = replace(SEEN, uuid="2", rows=0, parts={}, reached=0)
    watched = Watched(PLAN, Known({}).with_(opened), True, Opened.YES, opened)
    scene.loop.watched = watched
    scene.look(replace(opened, rows=1, parts={"all": (2, 2)}, reached=2))
    assert (scene.loop.opened_again, len(scene.doubts)) == (0, 1)
    scene.look(replace(opened, rows=1, parts={"all": (2, 3)}, reached=3))
    assert len(scene.doubts) == 1


def test_a_target_that_does_not_answer_tells_nothing() -> None:
    scene = Scene()

    def away(plan: TablePlan) -> Sighting:
        raise TargetError("ask", "t", "no answer", "wait", meaning=Meaning.RETRY)

    scene.target.sighting = away
    scene.watch.look([scene.loop])
    assert (scene.loop.opened_again, scene.doubts) == (0, [])
