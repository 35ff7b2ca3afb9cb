"""[P1] What one supervisor leaves to the next."""

from pathlib import Path

import pytest

from cdc.errors import StateError
from cdc.supervisor.record import Entry, Record
from cdc.supervisor.states import State

ENTRIES = {
    "writer": Entry(
        State.RUNNING, mark="writer:1", pid=7, start="boot/99", restarts=(1_760_000_000.0,), unclean=True
    ),
    "replicator": Entry(State.FATAL, "its files are damaged", held=True),
}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    Record(tmp_path / "programs.json").save(ENTRIES)
    assert Record(tmp_path / "programs.json").load() == ENTRIES


def test_without_a_file_there_are_no_entries(tmp_path: Path) -> None:
    assert Record(tmp_path / "programs.json").load() == {}


def test_nothing_is_written_when_nothing_changed(tmp_path: Path) -> None:
    path = tmp_path / "programs.json"
    record = Record(path)
    record.save(ENTRIES)
    path.unlink()
    record.save(ENTRIES)
    assert not path.exists()
    record.save({})
    assert path.exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 2, "programs": {}}', '{"version": 1, "programs": {"a": {}}}']
)
def test_a_damaged_record_is_refused_rather_than_taken_for_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "programs.json"
    path.write_text(content)
    with pytest.raises(StateError, match="none of the programs runs"):
        Record(path).load()


def test_a_record_that_cannot_be_stored_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No such file or directory"):
        Record(tmp_path / "nowhere" / "programs.json").save(ENTRIES)


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "programs.json"
    Record(path).save(ENTRIES)
    assert path.stat().st_mode & 0o777 == 0o600
