"""How a reader stands to the log of its table: one value, whose steps stand in a table. [issue 11 part 7]"""

from __future__ import annotations

from typing import cast

import pytest

from cdc.change import Position
from cdc.source.table.following import NEXT, Following, Phase, Step
from cdc.source.tail.tail import Tail

TAIL = cast(Tail, object())
IN = {
    Phase.SNAPSHOT: Following(),
    Phase.TAILING: Following().followed(TAIL),
    Phase.LOST: Following().lost("it was altered", 3),
}


def take(state: Following, step: Step) -> Following:
    match step:
        case Step.FOLLOWED:
            return state.followed(TAIL)
        case Step.CHECKPOINT:
            return state.checkpointed()
        case Step.READ:
            return state.read()
        case Step.LOST:
            return state.lost("a bulk load", 4)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("step", Step)
def test_each_step_leads_where_the_table_says_or_is_refused(phase: Phase, step: Step) -> None:
    if (phase, step) in NEXT:
        assert take(IN[phase], step).phase is NEXT[phase, step]
    else:
        with pytest.raises(ValueError, match=f"a reader that is {phase.value} cannot be {step.value}"):
            take(IN[phase], step)


@pytest.mark.parametrize("state", [IN[phase] for phase in Phase] + [IN[Phase.TAILING].read()], ids=repr)
def test_there_is_a_tail_while_it_is_followed_and_a_reason_while_it_is_lost(state: Following) -> None:
    assert (state.tail is not None) is (state.phase is Phase.TAILING)
    assert bool(state.reason) is (state.phase is Phase.LOST)


def test_a_snapshot_is_due_until_it_is_read_and_again_after_each_checkpoint() -> None:
    state = Following()
    dues = [state.due]
    for step in (Step.FOLLOWED, Step.READ, Step.CHECKPOINT, Step.READ, Step.LOST):
        state = take(state, step)
        dues.append(state.due)
    assert dues == [True, True, False, True, False, True]


def test_what_was_said_of_a_lost_log_is_known_until_it_is_followed_again() -> None:
    lost = IN[Phase.LOST].said(Position(1, 3, 100), 7.0)
    assert lost.lost("it was dropped", 3).told == lost.told
    assert lost.followed(TAIL).told is None
