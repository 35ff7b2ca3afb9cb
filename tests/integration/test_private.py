"""Files of the product are for its user alone, through no link, and in no directory of others. [S4, S7]"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cdc.config.loading import load
from cdc.errors import CdcError, ConfigError, StateError
from cdc.observe.status import write_status
from cdc.private import Unsafe, open_private, private_directory, refuse_writable
from cdc.state import Lease, open_store
from cdc.supervisor.control import ControlServer
from cdc.supervisor.logs import RotatedLog
from cdc.supervisor.process import spawn
from cdc.supervisor.record import replace_file
from tests.support.waiting import wait_until

CONFIG = '[database]\npath = "t.duckdb"\n[sync]\nclickhouse_endpoint = "http://127.0.0.1:9"\n'


class Status:
    def model_dump_json(self, indent: int) -> str:
        return "{}"


def _lease(directory: Path) -> None:
    with Lease(directory, "source"):
        pass


def _store(directory: Path) -> None:
    open_store(directory, failed_table="failed_syncs").close()


def _control(directory: Path) -> None:
    with ControlServer(directory):
        _all_private(directory)


def _program(directory: Path) -> None:
    wait_until(spawn(["/bin/true"], mark="m", log=directory / "writer.log").poll, "it ended")


def _rotated(directory: Path) -> None:
    (directory / "log").write_bytes(b"x" * (2 << 20))
    (directory / "log").chmod(0o600)
    assert RotatedLog(directory / "log", max_mb=1, keep=1).rotate_if_full()


MAKERS: dict[str, Callable[[Path], object]] = {
    "status": lambda d: write_status(d / "status.json", Status()),  # type: ignore[arg-type]
    "store": _store,
    "lease": _lease,
    "control": _control,
    "record": lambda d: replace_file(d / "record.json", b"{}"),
    "program's log": _program,
    "rotated log": _rotated,
}


def _all_private(directory: Path) -> None:
    for path in directory.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize("made", MAKERS)
def test_whatever_is_made_is_for_its_user_alone_whatever_the_mask_is(tmp_path: Path, made: str) -> None:
    directory = tmp_path / "state"
    before = os.umask(0)
    try:
        private_directory(directory)
        MAKERS[made](directory)
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    _all_private(directory)


@pytest.mark.parametrize("name", ["state.db", "writer.log", "record.json.new"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    (tmp_path / name).symlink_to(theirs)
    with pytest.raises(Unsafe, match="is a link"):
        open_private(tmp_path / name, os.O_WRONLY | os.O_TRUNC)
    assert theirs.read_text() == "theirs"


@pytest.mark.parametrize("make", [_lease, _store], ids=["lease", "store"])
def test_a_directory_that_others_may_write_is_refused_with_the_chmod_that_mends_it(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(StateError, match=f"others may write .*run: chmod go-w {directory}"):
        make(directory)
    os.system(f"chmod go-w {directory}")
    make(directory)


def test_where_everyone_may_write_but_nobody_may_exchange_files_they_are_made(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    private_directory(tmp_path)


def test_a_group_of_others_may_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdc.private._is_own_group", lambda group: False)
    tmp_path.chmod(0o770)
    with pytest.raises(Unsafe):
        refuse_writable(tmp_path)
    monkeypatch.setattr("cdc.private._is_own_group", lambda group: True)
    refuse_writable(tmp_path)


def test_a_configuration_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    path.chmod(0o666)
    with pytest.raises(ConfigError, match=f"others may write.*Run: chmod go-w {path}"):
        load(path, {})
    path.chmod(0o644)
    load(path, {})


def test_secrets_that_lie_elsewhere_are_refused_and_a_link_beside_them_is_not(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "conf" / "c.toml", tmp_path / "elsewhere"
    path.parent.mkdir()
    path.write_text(CONFIG)
    elsewhere.write_text("")
    elsewhere.chmod(0o600)
    (path.parent / "secrets.toml").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="it is a link to"):
        load(path, {})
    (path.parent / "secrets.toml").unlink()
    elsewhere.rename(path.parent / "mounted")
    (path.parent / "secrets.toml").symlink_to("mounted")
    load(path, {})


def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path, key = tmp_path / "c.toml", tmp_path / "client.key"
    key.write_text("key")
    key.chmod(0o644)
    path.write_text(
        CONFIG.replace("http:", "https:") + f'[target]\ncert_file = "{key}"\nkey_file = "{key}"\n'
    )
    with pytest.raises(CdcError, match=f"cannot use the key .*chmod 600 {key}"):
        load(path, {})
    key.chmod(0o600)
    load(path, {})
