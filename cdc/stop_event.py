"""How is a process asked to stop on Windows, which has no signals for that? By a named event.

The supervisor names it in the environment of what it starts (`CDC_STOP_EVENT`); a program that can end in
order makes the event and ends once it is set. Who made none cannot be asked, and is terminated. Elsewhere
signals do this, and the functions here do nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

VARIABLE = "CDC_STOP_EVENT"


def name_of(mark: str) -> str:
    """The event's name for one start of a program; a service and its users have it in common."""
    return "Global\\cdc-stop-" + mark.replace("\\", "-")


if sys.platform == "win32":
    import win32event

    _MAY_SET = 0x0002
    """EVENT_MODIFY_STATE."""

    def set_event(name: str) -> bool:
        """Set the event; False: no process has made it."""
        try:
            event = win32event.OpenEvent(_MAY_SET, False, name)
        except win32event.error:
            return False
        win32event.SetEvent(event)
        return True

    def listen(told: Callable[[], None]) -> None:
        """Call `told`, in a thread, once the event of this process's environment is set."""
        name = os.environ.get(VARIABLE)
        if name is None:
            return
        event = win32event.CreateEvent(None, True, False, name)

        def wait() -> None:
            win32event.WaitForSingleObject(event, win32event.INFINITE)
            told()

        threading.Thread(target=wait, name="stop-event", daemon=True).start()

else:

    def set_event(name: str) -> bool:  # noqa: ARG001 - Windows' own
        return False

    def listen(told: Callable[[], None]) -> None: ...
