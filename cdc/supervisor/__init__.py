"""Keeps programs running: starts, watches, limits, restarts and stops them, and survives its own death."""

from cdc.supervisor.control import ask
from cdc.supervisor.supervisor import Notify, Supervisor, SupervisorHeld

__all__ = ["Notify", "Supervisor", "SupervisorHeld", "ask"]
