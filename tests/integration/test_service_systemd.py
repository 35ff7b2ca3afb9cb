"""[P6] The units as systemd itself reads them. These tests need systemd-analyze, and fail without it."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cdc.errors import CdcError, ConfigError
from cdc.service import Systemd, Unit, render_unit, systemd_from
from cdc.service.systemd import install, uninstall
from tests.support.clock import FakeClock

UNIT = Unit(
    name="cdc",
    python=Path(sys.executable),
    config=Path("/etc/cdc/trades.toml"),
    writable=(Path("/var/lib/cdc"), Path("/srv/trade data")),
    user="daemon",
)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def written(directory: Path, unit: Unit) -> Path:
    path = directory / unit.file_name
    path.write_text(render_unit(unit))
    return path


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    done = analyze("verify", "--man=no", str(written(tmp_path, UNIT)))
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_accepts_an_instance_of_the_template(tmp_path: Path) -> None:
    unit = Unit(
        "cdc", Path(sys.executable), Path("/etc/cdc/%i.toml"), (Path("/var/lib/cdc/%i"),), instances=True
    )
    path = written(tmp_path, unit)
    assert path.name == "cdc@.service"
    assert "--config /etc/cdc/%i.toml" in path.read_text()
    assert "ReadWritePaths=-/var/lib/cdc/%i\n" in path.read_text()
    done = analyze("verify", "--man=no", str(tmp_path / "cdc@trades.service"))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_is_exposed_to_less_than_a_quarter_of_what_systemd_counts(tmp_path: Path) -> None:
    done = analyze("security", "--offline=true", "--threshold=25", str(written(tmp_path, UNIT)))
    assert done.returncode == 0, done.stdout
    assert re.search(r"Overall exposure level for cdc.service: [0-2]\.\d", done.stdout)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/etc/cdc/a.toml", "/etc/cdc/a.toml"),
        ("/srv/my data/a.toml", '"/srv/my data/a.toml"'),
        ("/srv/100%/a.toml", "/srv/100%%/a.toml"),
        ("/srv/$HOME/a.toml", "/srv/$$HOME/a.toml"),
    ],
)
def test_a_path_is_one_word_of_the_command_whatever_is_in_it(tmp_path: Path, path: str, word: str) -> None:
    unit = Unit("cdc", Path(sys.executable), Path(path), ())
    assert f"-m cdc --config {word} supervise\n" in render_unit(unit)
    assert analyze("verify", "--man=no", str(written(tmp_path, unit))).stderr == ""


def test_a_path_that_a_unit_cannot_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot stand in a unit file"):
        render_unit(Unit("cdc", Path(sys.executable), Path("/etc/a\nExecStartPre=/bin/sh"), ()))


def test_the_unit_gives_the_supervisor_its_time_to_stop_and_signals_nobody_else() -> None:
    text = render_unit(Unit("cdc", Path(sys.executable), Path("/etc/cdc.toml"), (), stop_seconds=120))
    assert "TimeoutStopSec=135\n" in text
    assert "KillMode=process\n" in text


class Systemctl:
    """A command that writes down how it was called."""

    def __init__(self, directory: Path, exit_code: int = 0) -> None:
        self._calls = directory / "calls"
        script = f"import sys; print(*sys.argv[1:], file=open({str(self._calls)!r}, 'a'))"
        self.command = (
            sys.executable,
            "-c",
            f"{script}; print('refused', file=sys.stderr); sys.exit({exit_code})",
        )

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines()


def test_install_writes_the_unit_and_starts_it_and_uninstall_undoes_both(tmp_path: Path) -> None:
    systemctl = Systemctl(tmp_path)
    path = install(UNIT, tmp_path, systemctl.command)
    assert path.read_text() == render_unit(UNIT)
    assert uninstall("cdc", tmp_path, systemctl.command) == [path]
    assert not path.exists()
    assert systemctl.calls == [
        "daemon-reload",
        "enable --now cdc.service",
        "disable --now cdc.service",
        "daemon-reload",
    ]


def test_what_systemctl_says_against_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(CdcError, match="refused"):
        install(UNIT, tmp_path, Systemctl(tmp_path, exit_code=1).command)


def test_a_service_that_is_not_installed_cannot_be_uninstalled(tmp_path: Path) -> None:
    with pytest.raises(CdcError, match="no such unit"):
        uninstall("cdc", tmp_path)


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(f"\0cdc-test-{os.getpid()}-{tmp_path.name}")
    listener.settimeout(5)
    return listener


def test_the_service_manager_is_told_of_readiness_life_and_the_end(manager: socket.socket) -> None:
    address = "@" + manager.getsockname()[1:].decode()
    clock = FakeClock()
    with manager:
        systemd = systemd_from({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"}, clock)
        systemd.ready()
        assert manager.recv(1000).startswith(b"READY=1\n")
        told: list[bytes] = []
        for _ in range(31):
            systemd.alive()
            clock.advance(1.0)
        systemd.stopping()
        while not told or not told[-1].startswith(b"STOPPING=1"):
            told.append(manager.recv(1000))
        assert told[:-1] == [b"WATCHDOG=1"] * 4, "at 0, 10, 20 and 30 s of a 30 s period"


def test_without_a_service_manager_nothing_is_said() -> None:
    systemd = systemd_from({})
    systemd.ready()
    systemd.alive()
    assert repr(systemd) == "Systemd(None, watchdog every None s)"


def test_a_watchdog_of_another_process_is_not_ours() -> None:
    systemd = systemd_from({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1", "NOTIFY_SOCKET": "/nowhere"})
    assert "every None s" in repr(systemd)


def test_a_service_manager_that_is_gone_does_not_end_the_supervisor(caplog: pytest.LogCaptureFixture) -> None:
    Systemd("/nowhere/at/all", None, FakeClock()).ready()
    assert "could not be told 'READY=1'" in caplog.text
