"""Moves rows from a source to a target, per table, and moves the mark once they are acknowledged."""
