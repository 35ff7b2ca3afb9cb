"""The supervisor as a Windows service, by pywin32's ServiceFramework.

The service control manager starts `PythonService.exe`, which imports this module and makes one `CdcService`.
The configuration's path stands in the service's own registry key: a service has no arguments of its own.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar

import servicemanager
import win32service
import win32serviceutil

from cdc.config import load
from cdc.observe.log import logging_to
from cdc.service.running import programs_of_up, supervisor_log, supervisor_of
from cdc.supervisor import Supervisor

CONFIG_OPTION = "config"
COMMAND_OPTION = "command"
_NOT_RUNNING = 1062
"""ERROR_SERVICE_NOT_ACTIVE."""
MODULE_CLASS = f"{__name__}.CdcService"


class CdcService(win32serviceutil.ServiceFramework):  # type: ignore[misc]
    """Runs a supervisor until the service is stopped or the machine shuts down."""

    _svc_name_ = "cdc"
    _svc_display_name_ = "DuckDB to ClickHouse replication"
    _svc_description_ = "Supervises the writer and the replicator of a DuckDB file."
    _stop_hint_ms: ClassVar[int] = 90_000
    """How long the manager is asked to wait for the end: the programs' grace periods lie in it."""

    def __init__(self, args: list[str]) -> None:
        super().__init__(args)
        self._name = args[0]
        self._stopped = threading.Event()
        self._supervisor: Supervisor | None = None

    def SvcDoRun(self) -> None:  # noqa: N802 - pywin32's name
        """Supervise; an error ends the service with it in the event log, and the manager's recovery acts."""
        config = win32serviceutil.GetServiceCustomOption(self._name, CONFIG_OPTION)
        command = win32serviceutil.GetServiceCustomOption(self._name, COMMAND_OPTION, "supervise")
        servicemanager.LogInfoMsg(f"{self._name}: starting with {config}")
        try:
            settings = load(Path(config))
            programs = programs_of_up(settings) if command == "up" else settings.programs
            self._supervisor = supervisor = supervisor_of(settings, programs)
            with logging_to(supervisor_log(settings)):
                if self._stopped.is_set():
                    return
                supervisor.run()
        except Exception as error:
            servicemanager.LogErrorMsg(f"{self._name}: {error}")
            raise
        servicemanager.LogInfoMsg(f"{self._name}: stopped")

    def SvcStop(self) -> None:  # noqa: N802 - pywin32's name
        self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING, waitHint=self._stop_hint_ms)
        self._stopped.set()
        if self._supervisor is not None:
            self._supervisor.stop()

    def SvcShutdown(self) -> None:  # noqa: N802 - pywin32's name
        self.SvcStop()


def install(name: str, config: Path, command: str, user: str | None, password: str | None) -> None:
    """Install the service, to be started at boot. Needs an administrator."""
    win32serviceutil.InstallService(
        MODULE_CLASS,
        name,
        CdcService._svc_display_name_,
        startType=win32service.SERVICE_AUTO_START,
        userName=user,
        password=password,
        description=CdcService._svc_description_,
        delayedstart=True,
    )
    win32serviceutil.SetServiceCustomOption(name, CONFIG_OPTION, str(config))
    win32serviceutil.SetServiceCustomOption(name, COMMAND_OPTION, command)
    _restart_on_failure(name)


def uninstall(name: str) -> None:
    """Stop the service, if it runs, and remove it. Needs an administrator."""
    try:
        win32serviceutil.StopService(name)
    except win32service.error as error:
        if error.winerror != _NOT_RUNNING:
            raise
    win32serviceutil.RemoveService(name)


def _restart_on_failure(name: str) -> None:
    """What the manager does when the process ends by itself: start it again after 5 s, always."""
    manager = win32service.OpenSCManager(None, None, win32service.SC_MANAGER_ALL_ACCESS)
    try:
        service: Any = win32service.OpenService(manager, name, win32service.SERVICE_ALL_ACCESS)
        try:
            win32service.ChangeServiceConfig2(
                service,
                win32service.SERVICE_CONFIG_FAILURE_ACTIONS,
                {
                    "ResetPeriod": 3600,
                    "RebootMsg": "",
                    "Command": "",
                    "Actions": [(win32service.SC_ACTION_RESTART, 5000)] * 3,
                },
            )
        finally:
            win32service.CloseServiceHandle(service)
    finally:
        win32service.CloseServiceHandle(manager)
