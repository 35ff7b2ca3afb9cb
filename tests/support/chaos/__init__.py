"""What tools/chaos.py breaks at random, and what is told when something stays broken."""

from __future__ import annotations

from tests.support.chaos import divergence, memory, network, refusals, replicator, server, source
from tests.support.chaos.diagnosis import diagnosis
from tests.support.chaos.place import TABLES, Faults, Place, installation

__all__ = ["TABLES", "Faults", "Place", "diagnosis", "faults_of", "installation"]


def faults_of(place: Place) -> Faults:
    """Every fault by name; each is over when it returns, but for what still has to arrive."""
    parts = (network, server, refusals, replicator, source, memory, divergence)
    return {name: fault for part in parts for name, fault in part.faults(place).items()}
