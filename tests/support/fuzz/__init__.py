"""Seeded fuzzing: inputs made of good ones, and what may come of them."""

from tests.support.fuzz.campaign import Figures, fuzz
from tests.support.fuzz.targets import TARGETS, Target, targets

__all__ = ["TARGETS", "Figures", "Target", "fuzz", "targets"]
