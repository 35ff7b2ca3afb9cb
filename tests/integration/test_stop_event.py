"""[P6] On Windows a program is asked to stop by an event; what is replaced there may be open elsewhere."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from cdc import private, stop_event
from cdc.supervisor.process import spawn
from tests.support.waiting import wait_until

ON_WINDOWS = pytest.mark.skipif(os.name != "nt", reason="events are Windows' own: tools/test.sh --windows")
LISTENING = """
import threading
from cdc import stop_event
stopped = threading.Event()
stop_event.listen(stopped.set)
print("listening", flush=True)
stopped.wait(60)
print("in order", flush=True)
"""


@ON_WINDOWS
def test_a_program_that_listens_ends_in_order(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tree = spawn([sys.executable, "-c", LISTENING], mark="writer:1", log=log)
    wait_until(lambda: "listening" in log.read_text(), "it listens", 60)
    tree.ask_to_stop("SIGTERM")
    wait_until(tree.poll, "it ended", 60)
    assert "in order" in log.read_text()


@ON_WINDOWS
def test_a_program_that_does_not_listen_is_terminated(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tree = spawn(
        [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(600)"],
        mark="writer:2",
        log=log,
    )
    wait_until(lambda: "up" in log.read_text(), "it runs", 60)
    tree.ask_to_stop("SIGTERM")
    wait_until(tree.poll, "it ended", 60)


@pytest.mark.skipif(os.name == "nt", reason="what other systems do")
def test_elsewhere_there_are_no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stop_event.VARIABLE, "e")
    threads = threading.active_count()
    stop_event.listen(lambda: None)
    assert threading.active_count() == threads
    assert not stop_event.set_event("e")


def test_the_name_of_an_event_has_one_backslash() -> None:
    assert stop_event.name_of("a\\b:1") == "Global\\cdc-stop-a-b:1"


def test_a_file_that_is_open_for_a_moment_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where the first attempts fail."""
    monkeypatch.setattr(private, "_POSIX", False)
    real, failures = os.replace, [PermissionError(), PermissionError()]

    def refusing(source: Path, target: Path) -> None:
        if failures:
            raise failures.pop()
        real(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    (tmp_path / "new").write_bytes(b"new")
    private.replace(tmp_path / "new", tmp_path / "old")
    assert private.read_replaced(tmp_path / "old") == b"new"
