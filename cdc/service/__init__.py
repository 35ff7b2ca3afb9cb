"""Runs the supervisor as a service of the machine: systemd units, a Windows service, a scheduled task."""

from cdc.service.notify import Systemd, systemd_from
from cdc.service.running import programs_of_up, supervisor_directory, supervisor_log, supervisor_of
from cdc.service.systemd import Unit, render_unit
from cdc.service.task_scheduler import Task, render_task

__all__ = [
    "Systemd",
    "Task",
    "Unit",
    "programs_of_up",
    "render_task",
    "render_unit",
    "supervisor_directory",
    "supervisor_log",
    "supervisor_of",
    "systemd_from",
]
