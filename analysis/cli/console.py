"""Tables for a terminal: numbers stay whole, and only the first column wraps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from rejoule.traces.terminal import console, shown

if TYPE_CHECKING:
    from rich.console import RenderableType

NARROWEST: Final = 16
"""Columns that names keep, whatever the numbers need."""


def say(text: str, style: str = "") -> None:
    console().print(Text(shown(text), style=style))


def show(title: str, heads: Sequence[str], rows: Sequence[Sequence[str | Text]], caption: str = "") -> None:
    """Print a table of text; the first column is left, the others right. Columns without content are dropped.

    Where the terminal is narrower than the numbers, lines run over rather than lose digits.
    """
    kept = [i for i in range(len(heads)) if i == 0 or any(_plain(row[i]) for row in rows)]
    widths = [max(map(cell_len, (heads[i], *(_plain(row[i]) for row in rows)))) for i in kept]
    names = min(widths[0], NARROWEST)
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column(heads[0], overflow="fold", min_width=names)
    for i, width in zip(kept[1:], widths[1:], strict=True):
        table.add_column(heads[i], justify="right", no_wrap=True, min_width=width)
    for row in rows:
        cells: list[RenderableType] = [row[i] if isinstance(row[i], Text) else Text(_plain(row[i])) for i in kept]
        table.add_row(*cells)
    out = console()
    out.print()
    out.print(Text(shown(title), style="bold"))
    needed = names + sum(widths[1:]) + 2 * (len(widths) - 1)
    if out.width < needed:
        out = console(width=needed)
    out.print(table)
    if caption:
        console().print(Text(caption, style="dim"))


def _plain(cell: str | Text) -> str:
    return shown(cell.plain if isinstance(cell, Text) else cell)
