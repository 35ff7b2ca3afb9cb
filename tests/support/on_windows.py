"""Which tests cannot pass on Windows, or not on wine, and why. They are skipped there, with the reason."""

from __future__ import annotations

MODES = "access lists take the place of modes and owners"
POSIX = "it is about POSIX's signals and sessions"
UNIX = "there are no Unix sockets"
OPEN_FILE = "it reads a file that a writer has open, which Windows does not allow"
SPELLING = "it expects the words, paths or line ends of POSIX"

SKIPPED = {
    "test_whatever_is_made_is_for_its_user_alone_whatever_the_mask_is": MODES,
    "test_nothing_is_written_through_a_link": "making a link needs a right of its own",
    "test_a_configuration_that_others_may_write_is_refused": MODES,
    "test_a_directory_that_others_may_write_is_refused_with_the_chmod_that_mends_it": MODES,
    "test_a_group_of_others_may_not_write": MODES,
    "test_a_private_key_that_others_may_read_is_refused": MODES,
    "test_secrets_that_lie_elsewhere_are_refused_and_a_link_beside_them_is_not": MODES,
    "test_only_its_owner_reads_it": MODES,
    "test_only_its_owner_may_read_where_it_listens": MODES,
    "test_a_spawned_process_leads_its_own_session_and_carries_its_mark": POSIX,
    "test_an_ended_process_is_not_alive_though_its_zombie_has_the_pid": POSIX,
    "test_a_suspended_process_is_in_trouble": POSIX,
    "test_any_other_failure_of_the_check_moves_nothing[-9]": POSIX,
    "test_a_grandchild_in_a_session_of_its_own_is_still_a_member_when_its_parents_are_gone": (
        "wine tells psutil of no other process"
    ),
    "test_no_process_started_by_these_tests_inherits_a_descriptor": "it is about descriptors",
    "test_what_cannot_be_started_says_why[command0-None-No such file]": SPELLING,
    "test_a_command_tells_its_exit_code_and_the_end_of_its_output": SPELLING,
    "test_placeholders_are_filled_in_without_a_shell": SPELLING,
    "test_a_heartbeat_that_was_never_written_is_a_failure": SPELLING,
    "test_a_directory_too_deep_for_a_unix_socket_has_one_all_the_same_and_no_tcp": UNIX,
    "test_nothing_remains_when_the_supervisor_ends": UNIX,
    "test_a_caller_of_a_byte_now_and_then_has_no_more_time_than_others": UNIX,
    "test_each_checkpoint_raises_the_iteration": OPEN_FILE,
}


def reason_to_skip(name: str) -> str | None:
    """Why the test of this name, parameters included, is not for Windows; None: it is."""
    if "[unix" in name:
        return UNIX
    return SKIPPED.get(name) or SKIPPED.get(name.partition("[")[0])
