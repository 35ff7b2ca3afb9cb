"""How commands print tables: drawn on a terminal, plain columns where another program reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from cdc.visible import visible, visible_line


class _Console(Console):
    """Whatever is drawn, others' text in it steers no terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def console() -> Console:
    """Standard output; not wrapped, coloured or styled unless it is a terminal. Text is no markup."""
    return _Console(file=sys.stdout, highlight=False, markup=False, soft_wrap=not sys.stdout.isatty())


def table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
) -> RenderableType:
    """Rows under headings; the columns named in `right` are aligned to the right."""
    if not sys.stdout.isatty():
        return _plain(headings, rows, right)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        drawn.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(visible_line(cell)) for cell in row))
    return drawn


def _plain(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> RenderableType:
    rows = [[visible_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if heading in right else cell.ljust(width)
            for cell, width, heading in zip(row, widths, headings, strict=True)
        ).rstrip()
        for row in [headings, *rows]
    ]
    return Text("\n".join(lines))
