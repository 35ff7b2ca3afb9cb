"""How do commands write lines? With what others wrote made visible, so that it steers no terminal."""

from __future__ import annotations

import sys

import typer

from cdc.visible import visible, visible_line


def say(text: str = "", *, nl: bool = True, err: bool = False) -> None:
    """Write text on standard output, or standard error."""
    typer.echo(visible(text), nl=nl, err=err)


def complain(text: str) -> None:
    """Write a line on standard error."""
    print(f"cdc: {visible_line(text)}", file=sys.stderr)
