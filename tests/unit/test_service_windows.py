"""[P6] The Windows service against stand-ins for pywin32.

Names and signatures are those of pywin32 312 (win32serviceutil.py; win32service and servicemanager as their
documentation has them). What only Windows can show is not shown here: that the manager starts it.
"""

# ruff: noqa: N802, N803 - the names are pywin32's

import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cdc.config import LoggingConfig
from tests.support.waiting import wait_until


class FakeManager:
    """The service control manager, the event log and the registry."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.log: list[str] = []
        self.options: dict[tuple[str, str], str] = {}
        self.installed: dict[str, dict[str, Any]] = {}
        self.failure_actions: dict[str, Any] = {}
        self.handler: Any = None
        self.stop_fails = 0
        """The error number of a stop; 0: it succeeds."""


class FakeError(Exception):
    """pywin32's `pywintypes.error`, which `win32service` calls `error`."""

    def __init__(self, winerror: int) -> None:
        super().__init__(winerror, "ControlService", "it failed")
        self.winerror = winerror


class ServiceFramework:
    """The parts of pywin32's class that a service meets, in pywin32's own words."""

    manager: FakeManager
    _svc_name_: str
    SERVICE_STOP_PENDING = 3

    def __init__(self, args: list[str]) -> None:
        self.ssh = 1
        self.manager.handler = self.ServiceCtrlHandlerEx
        self.checkPoint = 0

    def ReportServiceStatus(
        self, serviceStatus: int, waitHint: int = 5000, win32ExitCode: int = 0, svcExitCode: int = 0
    ) -> None:
        self.manager.statuses.append(serviceStatus)

    def ServiceCtrlHandlerEx(self, control: int, event_type: int, data: object) -> object:
        match control:
            case 1:
                return self.SvcStop()  # type: ignore[attr-defined]
            case 5:
                return self.SvcShutdown()  # type: ignore[attr-defined]
        raise AssertionError(control)

    def SvcRun(self) -> None:
        self.ReportServiceStatus(4)
        self.SvcDoRun()  # type: ignore[attr-defined]
        self.ReportServiceStatus(3)


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> FakeManager:
    manager = FakeManager()
    framework = type("ServiceFramework", (ServiceFramework,), {"manager": manager})

    def install_service(
        pythonClassString: str,
        serviceName: str,
        displayName: str,
        startType: int | None = None,
        errorControl: int | None = None,
        bRunInteractive: int = 0,
        serviceDeps: object = None,
        userName: str | None = None,
        password: str | None = None,
        exeName: str | None = None,
        perfMonIni: object = None,
        perfMonDll: object = None,
        exeArgs: str | None = None,
        description: str | None = None,
        delayedstart: bool | None = None,
    ) -> None:
        manager.installed[serviceName] = {
            "class": pythonClassString,
            "start": startType,
            "user": userName,
            "delayed": delayedstart,
        }

    def set_option(serviceName: str, option: str, value: str) -> None:
        manager.options[serviceName, option] = value

    def get_option(serviceName: str, option: str, defaultValue: str | None = None) -> str | None:
        return manager.options.get((serviceName, option), defaultValue)

    def change_config(hService: str, InfoLevel: int, info: object) -> None:
        manager.failure_actions[hService] = info

    def stop_service(serviceName: str, machine: str | None = None) -> None:
        if manager.stop_fails:
            raise FakeError(manager.stop_fails)

    modules: dict[str, dict[str, Any]] = {
        "win32serviceutil": {
            "ServiceFramework": framework,
            "InstallService": install_service,
            "SetServiceCustomOption": set_option,
            "GetServiceCustomOption": get_option,
            "StopService": stop_service,
            "RemoveService": lambda serviceName: manager.installed.pop(serviceName),
        },
        "win32service": {
            "error": FakeError,
            "SERVICE_STOP_PENDING": 3,
            "SERVICE_AUTO_START": 2,
            "SERVICE_ALL_ACCESS": 0xF01FF,
            "SC_MANAGER_ALL_ACCESS": 0xF003F,
            "SERVICE_CONFIG_FAILURE_ACTIONS": 2,
            "SC_ACTION_RESTART": 1,
            "OpenSCManager": lambda machineName, dbName, desiredAccess: "manager",
            "OpenService": lambda scHandle, name, desiredAccess: name,
            "ChangeServiceConfig2": change_config,
            "CloseServiceHandle": lambda scHandle: None,
        },
        "servicemanager": {
            "LogInfoMsg": manager.log.append,
            "LogErrorMsg": manager.log.append,
        },
    }
    for name, attributes in modules.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "cdc.service.windows", raising=False)
    return manager


@pytest.fixture
def windows(manager: FakeManager) -> Iterator[Any]:
    yield importlib.import_module("cdc.service.windows")
    del sys.modules["cdc.service.windows"]


class FakeSupervisor:
    def __init__(self) -> None:
        self.running = threading.Event()
        self.stopped = threading.Event()

    def run(self) -> None:
        self.running.set()
        assert self.stopped.wait(20)

    def stop(self) -> None:
        self.stopped.set()


@pytest.fixture
def supervisor(windows: Any, monkeypatch: pytest.MonkeyPatch) -> FakeSupervisor:
    supervisor = FakeSupervisor()

    monkeypatch.setattr(windows, "load", lambda path: SimpleNamespace(programs={"writer": path}))
    monkeypatch.setattr(windows, "supervisor_of", lambda settings, programs: supervisor)
    monkeypatch.setattr(windows, "supervisor_log", lambda settings: LoggingConfig())
    return supervisor


@pytest.mark.parametrize("control", [1, 5], ids=["stop", "shutdown"])
def test_the_service_runs_until_the_manager_stops_it(
    windows: Any, manager: FakeManager, supervisor: FakeSupervisor, control: int
) -> None:
    manager.options["trades", "config"] = r"C:\cdc\config.toml"
    service = windows.CdcService(["trades"])
    thread = threading.Thread(target=service.SvcRun)
    thread.start()
    wait_until(supervisor.running.is_set, "it runs")
    manager.handler(control, 0, None)
    thread.join(20)
    assert not thread.is_alive()
    assert manager.statuses == [4, 3, 3], "running, stop pending, and pending again at the end"
    assert manager.log == [r"trades: starting with C:\cdc\config.toml", "trades: stopped"]


def test_a_stop_before_the_supervisor_was_made_is_obeyed(
    windows: Any, manager: FakeManager, supervisor: FakeSupervisor
) -> None:
    manager.options["trades", "config"] = "config.toml"
    service = windows.CdcService(["trades"])
    service.SvcStop()
    service.SvcDoRun()
    assert not supervisor.running.is_set()


def test_an_error_stands_in_the_event_log_and_ends_the_service(windows: Any, manager: FakeManager) -> None:
    manager.options["trades", "config"] = "/nowhere/config.toml"
    service = windows.CdcService(["trades"])
    with pytest.raises(Exception, match="nowhere"):
        service.SvcRun()
    assert str(Path("/nowhere/config.toml")) in manager.log[-1]


def test_installing_names_the_class_keeps_the_configuration_and_asks_for_restarts(
    windows: Any, manager: FakeManager
) -> None:
    windows.install("trades", Path("config.toml"), "up", None, None)
    assert manager.installed["trades"]["class"] == "cdc.service.windows.CdcService"
    assert manager.installed["trades"]["start"] == 2
    assert manager.options == {("trades", "config"): "config.toml", ("trades", "command"): "up"}
    assert manager.failure_actions["trades"]["Actions"] == [(1, 5000)] * 3
    windows.uninstall("trades")
    assert manager.installed == {}


def test_a_service_that_does_not_run_is_uninstalled_too(windows: Any, manager: FakeManager) -> None:
    windows.install("trades", Path("config.toml"), "up", None, None)
    manager.stop_fails = 1062  # it is not active
    windows.uninstall("trades")
    assert manager.installed == {}


def test_a_service_that_cannot_be_stopped_is_not_removed(windows: Any, manager: FakeManager) -> None:
    windows.install("trades", Path("config.toml"), "up", None, None)
    manager.stop_fails = 5  # access is denied
    with pytest.raises(FakeError):
        windows.uninstall("trades")
    assert "trades" in manager.installed
