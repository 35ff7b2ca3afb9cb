from typing import Any

import pytest

from cdc.config.programs import FileCheckConfig, ProgramConfig
from cdc.supervisor import conditions
from cdc.supervisor.machine import Clear, Do, FileVerdict, Machine, Raise
from cdc.supervisor.states import IllegalTransition, State, moved


def machine(now: float = 0.0, **settings: Any) -> Machine:
    config = ProgramConfig.model_validate({"command": ["writer"], **settings})
    return Machine("writer", config, lambda: 0.5, now)


def state(program: Machine) -> State:
    return program.state  # through a call, as the type checker would take one assertion for the next


def running(**settings: Any) -> Machine:
    program = machine(**settings)
    program.start(0.0)
    assert program.allowed(0.0) == (Do.SPAWN,)
    program.spawned(0.0)
    program.health(0.0, None)
    assert state(program) is State.RUNNING
    return program


def respawn(program: Machine, now: float) -> None:
    assert state(program) is State.BACKOFF
    program.tick(now)
    assert program.allowed(now) == (Do.SPAWN,)
    program.spawned(now)


CHECKED: dict[str, Any] = {"before_restart": FileCheckConfig(command=("check",)).model_dump()}


def test_a_program_starts_when_allowed_and_runs_once_healthy() -> None:
    program = machine()
    assert program.allowed(0.0) == (), "nobody asked for it"
    program.start(0.0)
    assert state(program) is State.WAITING
    assert program.allowed(0.0) == (Do.SPAWN,)
    program.spawned(1.0)
    assert state(program) is State.STARTING
    program.health(2.0, "no heartbeat yet")
    assert state(program) is State.STARTING
    program.health(3.0, None)
    assert state(program) is State.RUNNING


def test_a_crash_is_followed_by_a_restart_after_the_backoff() -> None:
    program = running()
    assert program.ended(10.0, -9) == (Do.SIGNAL,), "what it left behind is cleared away first"
    assert state(program) is State.STOPPING
    program.gone(10.0)
    assert state(program) is State.BACKOFF
    assert program.reason == "it was ended by signal 9"
    assert program.next_start_in(10.4) == pytest.approx(0.6)
    program.tick(10.9)
    assert state(program) is State.BACKOFF
    respawn(program, 11.0)


def test_the_fourth_failure_within_the_window_is_fatal_and_an_alert() -> None:
    program = running()
    for failure in range(3):
        program.ended(10.0 * failure, 1)
        program.gone(10.0 * failure)
        respawn(program, 10.0 * failure + 9)
    program.ended(40.0, 1)
    (alert, _) = program.gone(40.0)
    assert state(program) is State.FATAL
    assert alert == Raise(conditions.FATAL, "it ended with exit code 1, after 3 restarts within 300 s")
    program.tick(1e6)
    assert state(program) is State.FATAL, "only a person ends it"


def test_a_person_starts_a_fatal_program_with_a_clean_slate() -> None:
    program = running(restart={"max_restarts": 0})
    program.ended(1.0, 1)
    program.gone(1.0)
    assert state(program) is State.FATAL
    assert Clear(conditions.FATAL) in program.start(2.0)
    assert program.allowed(2.0) == (Do.SPAWN,)


def test_a_stable_program_has_its_restarts_forgiven() -> None:
    program = running()
    for failure in range(3):
        program.ended(10.0 * failure, 1)
        program.gone(10.0 * failure)
        respawn(program, 10.0 * failure + 9)
    program.health(30.0, None)
    program.tick(89.0)
    assert len(program.restarts.ages(89.0)) == 3
    program.tick(90.0)
    assert program.restarts.ages(90.0) == ()


@pytest.mark.parametrize(
    ("when", "code", "expected"),
    [
        ("failure", 0, State.EXITED),
        ("failure", 1, State.BACKOFF),
        ("failure", None, State.BACKOFF),
        ("always", 0, State.BACKOFF),
        ("never", 0, State.EXITED),
        ("never", 1, State.FATAL),
    ],
)
def test_the_policy_says_which_ends_are_followed_by_a_restart(
    when: str, code: int | None, expected: State
) -> None:
    program = running(restart={"when": when})
    program.ended(1.0, code)
    program.gone(1.0)
    assert program.state is expected


def test_other_expected_exit_codes_are_no_failure() -> None:
    program = running(restart={"expected_exit_codes": [0, 17]})
    program.ended(1.0, 17)
    program.gone(1.0)
    assert state(program) is State.EXITED


def test_ten_unresponsive_seconds_are_an_alert_and_a_restart() -> None:
    """[P2] With a check every 5 s, the third failure is 10 s after the first."""
    program = running()
    assert program.health(5.0, "suspended") == ()
    assert program.health(10.0, "suspended") == ()
    alert, signal = program.health(15.0, "suspended")
    assert alert == Raise(conditions.UNHEALTHY, "3 failures in a row: suspended")
    assert signal is Do.SIGNAL
    assert state(program) is State.STOPPING
    program.ended(16.0, -15)
    program.gone(16.0)
    assert state(program) is State.BACKOFF
    assert program.reason == "unresponsive: suspended"


def test_one_good_round_between_failures_starts_the_count_again() -> None:
    program = running()
    for now, problem in ((5.0, "slow"), (10.0, "slow"), (15.0, None), (20.0, "slow"), (25.0, "slow")):
        assert not any(isinstance(action, Raise) for action in program.health(now, problem))
    assert state(program) is State.RUNNING


def test_a_program_that_never_gets_healthy_is_restarted() -> None:
    program = machine(health={"start_timeout_sec": 30})
    program.start(0.0)
    program.spawned(0.0)
    program.health(29.0, "port 9000 refused")
    assert program.tick(29.9) == ()
    assert program.tick(30.0) == (Do.SIGNAL,)
    assert program.reason == "not healthy in time: port 9000 refused"


def test_grace_is_followed_by_the_kill_until_all_are_gone() -> None:
    program = running(grace_sec=10)
    assert program.stop(0.0) == (Do.SIGNAL,)
    assert program.tick(9.9) == ()
    assert program.tick(10.0) == (Do.KILL,)
    assert program.tick(10.5) == ()
    assert program.tick(11.0) == (Do.KILL,), "a tree may fork while it is killed"
    program.ended(11.1, -9)
    program.gone(11.1)
    assert state(program) is State.STOPPED


def test_hurry_ends_the_grace_period() -> None:
    program = running()
    assert program.hurry() == ()
    program.stop(0.0)
    assert program.hurry() == (Do.KILL,)


def test_a_requested_restart_is_not_counted() -> None:
    program = running()
    program.restart(1.0)
    program.ended(2.0, 0)
    program.gone(2.0)
    assert state(program) is State.WAITING
    assert program.restarts.ages(2.0) == ()


def test_stop_during_the_end_of_a_crashed_program_wins() -> None:
    program = running()
    program.ended(1.0, 1)
    program.stop(1.0)
    program.gone(1.0)
    assert state(program) is State.STOPPED


def test_start_during_a_stop_starts_it_again() -> None:
    program = running()
    program.stop(1.0)
    program.start(1.5)
    program.ended(2.0, 0)
    program.gone(2.0)
    assert state(program) is State.WAITING


def test_stop_ends_a_backoff() -> None:
    program = running()
    program.ended(1.0, 1)
    program.gone(1.0)
    program.stop(1.1)
    program.tick(100.0)
    assert state(program) is State.STOPPED


def test_memory_above_its_limit_is_an_alert_and_a_graceful_restart() -> None:
    """[P4]"""
    program = running()
    assert program.breach(1.0, "4100 MB") == (Raise(conditions.MEMORY, "4100 MB"), Do.SIGNAL)
    assert program.breach(1.1, "4100 MB") == (), "it is being stopped already"
    program.ended(2.0, 0)
    program.gone(2.0)
    assert state(program) is State.BACKOFF, "a clean exit does not make a breach a success"


def test_a_command_that_cannot_be_started_is_a_failure() -> None:
    program = machine(restart={"max_restarts": 1})
    program.start(0.0)
    program.allowed(0.0)
    program.not_spawned(0.0, "no such file: writer")
    assert state(program) is State.BACKOFF
    program.tick(100.0)
    program.allowed(100.0)
    program.not_spawned(100.0, "no such file: writer")
    assert state(program) is State.FATAL


def crashed_and_waiting(**settings: Any) -> Machine:
    program = running(**CHECKED, **settings)
    program.ended(1.0, -11)
    program.gone(1.0)
    program.tick(10.0)
    assert program.allowed(10.0) == (Do.CHECK_FILE,)
    assert state(program) is State.CHECKING
    return program


def test_a_crashed_program_starts_after_its_file_was_found_sound() -> None:
    """[P7]"""
    program = crashed_and_waiting()
    assert program.tick(11.0) == ()
    assert program.checked(12.0, FileVerdict.SOUND, "") == (Do.SPAWN,)
    program.spawned(12.0)
    assert state(program) is State.STARTING


def test_a_damaged_file_is_an_alert_and_no_restart() -> None:
    """[P7]"""
    program = crashed_and_waiting()
    assert program.checked(12.0, FileVerdict.CORRUPT, "block 7") == (
        Raise(conditions.FILE_CORRUPT, "block 7"),
    )
    assert state(program) is State.FATAL
    assert program.held


def test_a_check_that_could_not_run_is_no_proof_of_damage() -> None:
    program = crashed_and_waiting()
    (alert,) = program.checked(12.0, FileVerdict.UNKNOWN, "no such command")
    assert isinstance(alert, Raise)
    assert alert.kind is conditions.FILE_UNCHECKED
    assert state(program) is State.FATAL
    assert not program.held


def test_a_restored_file_lets_it_start_with_a_warning() -> None:
    program = crashed_and_waiting()
    alert, spawn = program.checked(12.0, FileVerdict.RESTORED, "from 10:00")
    assert alert == Raise(conditions.FILE_RESTORED, "from 10:00")
    assert spawn is Do.SPAWN


def test_a_clean_end_needs_no_check() -> None:
    program = running(**CHECKED)
    program.restart(1.0)
    program.ended(1.5, 0)
    program.gone(1.5)
    assert program.allowed(1.5) == (Do.SPAWN,)


def test_a_kill_at_the_end_of_the_grace_period_needs_a_check_before_the_next_start() -> None:
    program = running(**CHECKED)
    program.stop(1.0)
    program.tick(100.0)
    program.ended(100.1, -9)
    program.gone(100.1)
    program.start(200.0)
    assert program.allowed(200.0) == (Do.CHECK_FILE,)


def test_a_stop_during_the_check_is_obeyed_when_the_check_ends() -> None:
    program = crashed_and_waiting()
    program.stop(11.0)
    assert state(program) is State.STOPPED
    assert program.checked(12.0, FileVerdict.SOUND, "") == ()
    assert state(program) is State.STOPPED


def test_an_adopted_program_runs_and_is_watched() -> None:
    """[P1]"""
    program = machine()
    program.adopt(0.0)
    assert state(program) is State.RUNNING
    program.ended(1.0, None)
    program.gone(1.0)
    assert state(program) is State.BACKOFF


def test_a_hold_outlasts_the_supervisor_until_a_person_starts_it() -> None:
    program = machine()
    (alert,) = program.resume(0.0, State.FATAL, "block 7 is damaged", held=True)
    assert alert == Raise(conditions.FATAL, "block 7 is damaged")
    assert program.allowed(1.0) == ()
    program.start(2.0)
    assert not program.held


def test_a_move_that_makes_no_sense_is_a_defect() -> None:
    with pytest.raises(IllegalTransition, match="fatal to running"):
        moved(State.FATAL, State.RUNNING)
