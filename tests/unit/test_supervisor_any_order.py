"""The states of a program under random events: no illegal move, and never two processes."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cdc.supervisor.machine import Do, FileVerdict
from cdc.supervisor.states import State
from tests.unit.test_supervisor_machine import CHECKED, machine


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: no illegal move, and never two processes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.program = machine(**CHECKED)
        self.processes = 0
        self.checking = False

    def do(self, actions: object) -> None:
        assert isinstance(actions, tuple)
        for action in actions:
            if action is Do.SPAWN:
                self.processes += 1
                self.program.spawned(self.now)
            elif action is Do.CHECK_FILE:
                self.checking = True

    @rule(seconds=st.floats(0, 400))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.program.tick(self.now))

    @rule()
    def start(self) -> None:
        self.do(self.program.start(self.now))

    @rule()
    def stop(self) -> None:
        self.do(self.program.stop(self.now))

    @rule()
    def restart(self) -> None:
        self.do(self.program.restart(self.now))

    @precondition(lambda self: not self.checking)
    @rule()
    def allow(self) -> None:
        self.do(self.program.allowed(self.now))

    @precondition(lambda self: self.checking)
    @rule(verdict=st.sampled_from(FileVerdict))
    def check_ends(self, verdict: FileVerdict) -> None:
        self.checking = False
        self.do(self.program.checked(self.now, verdict, "detail"))

    @rule(problem=st.sampled_from([None, "slow"]))
    def health(self, problem: str | None) -> None:
        self.do(self.program.health(self.now, problem))

    @rule()
    def breach(self) -> None:
        self.do(self.program.breach(self.now, "too much"))

    @precondition(lambda self: self.processes)
    @rule(code=st.sampled_from([0, 1, -9, None]))
    def end(self, code: int | None) -> None:
        self.do(self.program.ended(self.now, code))
        self.processes -= 1
        self.do(self.program.gone(self.now))

    @invariant()
    def at_most_one_process_and_none_at_rest(self) -> None:
        has_process = self.program.state in (State.STARTING, State.RUNNING, State.STOPPING)
        assert self.processes == has_process


TestAnyOrder = AnyOrder.TestCase
