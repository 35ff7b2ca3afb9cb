"""[P6]"""

import xml.etree.ElementTree as ET
from pathlib import PureWindowsPath

from cdc.service import Task, render_task

TASK = Task(
    PureWindowsPath(r"C:\Program Files\cdc\python.exe"),
    PureWindowsPath(r"C:\Trade & System\config.toml"),
    PureWindowsPath(r"C:\Trade & System"),
)
PREFIX = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"

ORDER = {
    "Task": ["RegistrationInfo", "Triggers", "Principals", "Settings", "Actions"],
    "BootTrigger": ["Enabled", "Delay"],
    "Exec": ["Command", "Arguments", "WorkingDirectory"],
    "RestartOnFailure": ["Interval", "Count"],
}
"""Sequences of Microsoft's schema (the elements used here); those of Settings are an xs:all."""


def parsed(task: Task) -> ET.Element:
    return ET.fromstring(render_task(task))


def text(root: ET.Element, name: str) -> str | None:
    found = root.find(f".//{PREFIX}{name}")
    assert found is not None, name
    return found.text


def test_the_task_is_utf_16_with_a_byte_order_mark_as_schtasks_wants_it() -> None:
    assert render_task(TASK)[:2] in (b"\xff\xfe", b"\xfe\xff")
    assert "encoding='utf-16'" in render_task(TASK).decode("utf-16").splitlines()[0]


def test_the_elements_stand_in_the_order_of_the_schema() -> None:
    root = parsed(TASK)
    assert root.get("version") == "1.4"
    for element in root.iter():
        name = element.tag.removeprefix(PREFIX)
        if name in ORDER:
            assert [child.tag.removeprefix(PREFIX) for child in element] == ORDER[name]


def test_the_command_survives_spaces_and_ampersands() -> None:
    root = parsed(TASK)
    assert text(root, "Command") == r"C:\Program Files\cdc\python.exe"
    assert text(root, "Arguments") == r'-m cdc --config "C:\Trade & System\config.toml" supervise'
    assert text(root, "WorkingDirectory") == r"C:\Trade & System"


def test_the_task_runs_from_boot_without_end_and_never_twice() -> None:
    root = parsed(TASK)
    assert root.find(f".//{PREFIX}BootTrigger") is not None
    assert text(root, "ExecutionTimeLimit") == "PT0S"
    assert text(root, "MultipleInstancesPolicy") == "IgnoreNew"
    assert text(root, "Interval") == "PT1M"


def test_the_principal_is_the_one_that_the_actions_name() -> None:
    root = parsed(TASK)
    principal, actions = root.find(f".//{PREFIX}Principal"), root.find(f"{PREFIX}Actions")
    assert principal is not None
    assert actions is not None
    assert principal.get("id") == actions.get("Context")
    assert text(root, "UserId") == "S-1-5-19"
