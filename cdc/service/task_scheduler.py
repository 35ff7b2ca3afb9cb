"""The Task Scheduler's description of a supervisor: started at boot, kept running, never twice.

The format is Microsoft's Task Scheduler Schema 1.4; the order of elements matters to it.
"""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import PurePath

NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
LOCAL_SERVICE = "S-1-5-19"
"""The account without rights on other machines; a user's SID or name stands here as well."""


@dataclass(frozen=True, slots=True)
class Task:
    python: PurePath
    config: PurePath
    directory: PurePath
    """Where it runs."""
    user: str = LOCAL_SERVICE
    command: str = "supervise"


def render_task(task: Task) -> bytes:
    """The task as `schtasks /Create /XML` reads it: UTF-16 with a byte order mark."""
    root = ET.Element("Task", {"version": "1.4", "xmlns": NAMESPACE})
    _add(root, "RegistrationInfo", Description="Supervisor of DuckDB to ClickHouse replication")
    _add(ET.SubElement(root, "Triggers"), "BootTrigger", Enabled="true", Delay="PT30S")
    principal = _add(
        ET.SubElement(root, "Principals"), "Principal", UserId=task.user, RunLevel="LeastPrivilege"
    )
    principal.set("id", "Author")
    settings = _add(
        root,
        "Settings",
        MultipleInstancesPolicy="IgnoreNew",
        DisallowStartIfOnBatteries="false",
        StopIfGoingOnBatteries="false",
        AllowHardTerminate="true",
        StartWhenAvailable="true",
        Enabled="true",
        ExecutionTimeLimit="PT0S",
        Priority="5",
    )
    restart = ET.Element("RestartOnFailure")
    ET.SubElement(restart, "Interval").text = "PT1M"
    ET.SubElement(restart, "Count").text = "255"
    settings.append(restart)
    actions = ET.SubElement(root, "Actions", {"Context": "Author"})
    _add(
        actions,
        "Exec",
        Command=str(task.python),
        Arguments=subprocess.list2cmdline(["-m", "cdc", "--config", str(task.config), task.command]),
        WorkingDirectory=str(task.directory),
    )
    ET.indent(root)
    xml: bytes = ET.tostring(root, encoding="utf-16", xml_declaration=True)
    return xml


def _add(parent: ET.Element, name: str, **children: str) -> ET.Element:
    element = ET.SubElement(parent, name)
    for child, text in children.items():
        ET.SubElement(element, child).text = text
    return element
