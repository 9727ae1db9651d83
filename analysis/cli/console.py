"""Tables for a terminal: as wide as it is, and numbers stay whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Final

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from rejoule.traces.terminal import console, shown

NARROWEST: Final = 16
"""Columns that names keep, whatever the numbers need."""
GAP: Final = 2


def say(text: str, style: str = "") -> None:
    """Print a paragraph; spaces before it are those before each of its lines."""
    out, bare = console(), shown(text).lstrip(" ")
    indent = " " * (len(shown(text)) - len(bare))
    for line in Text(bare, style=style).wrap(out, max(1, out.width - len(indent))) or [Text()]:
        line.rstrip()
        out.print(Text.assemble(indent, line))


def show(title: str, heads: Sequence[str], rows: Sequence[Sequence[str | Text]], caption: str = "") -> None:
    """Print a table of text; the first column is left, the others right. Columns without content are dropped.

    Where the terminal is narrower than the table, headings wrap first, then names; what is wider still goes on below,
    beside the names again. A number is never broken.
    """
    out = console()
    out.print()
    out.print(Text(shown(title), style="bold"))
    kept = [i for i in range(1, len(heads)) if any(_plain(row[i]) for row in rows)]
    cells = {i: max((cell_len(_plain(row[i])) for row in rows), default=0) for i in (0, *kept)}
    names, widths = _widths(heads, cells, out.width)
    for number, part in enumerate(_parts(widths, out.width - names)):
        table = Table(box=None, header_style="dim", pad_edge=False)
        table.add_column(heads[0], overflow="fold", width=names)
        for i in part:
            table.add_column(Text(wrapped(heads[i], widths[i])), justify="right", no_wrap=True, min_width=widths[i])
        for row in rows:
            table.add_row(*(_text(row[i]) for i in (0, *part)))
        if number:
            out.print()
        # A single number may be wider than the terminal: its line runs over rather than lose digits.
        console(width=max(out.width, names + sum(widths[i] + GAP for i in part))).print(table)
    if caption:
        out.print(Text(caption, style="dim"))


def _widths(heads: Sequence[str], cells: Mapping[int, int], room: int) -> tuple[int, dict[int, int]]:
    """Of names, and of each column that has content: with as few breaks as the room allows."""
    whole = max(cells[0], cell_len(heads[0]))
    least = min(whole, NARROWEST)
    for names, lines in ((whole, 1), (whole, 2), (whole, 3), (least, 2), (least, 3)):
        widths = {i: max(width, _narrowest(heads[i], lines)) for i, width in cells.items() if i}
        if names + sum(width + GAP for width in widths.values()) <= room:
            return names, widths
    return min(whole, max(least, room // 3)), widths


def _narrowest(head: str, lines: int) -> int:
    """The least width at which a heading takes at most so many lines."""
    words = [cell_len(word) for word in head.split()]
    return next(
        (width for width in range(max(words, default=0), cell_len(head)) if wrapped(head, width).count("\n") < lines),
        cell_len(head),
    )


def wrapped(head: str, width: int) -> str:
    """A heading in lines of at most ``width``, words left whole."""
    return "\n".join(wrap(head, max(width, 1), break_long_words=False, break_on_hyphens=False))


def _parts(widths: Mapping[int, int], room: int) -> list[list[int]]:
    """Columns in the order in which they come, as many beside each other as there is room for; one at least."""
    parts: list[list[int]] = [[]]
    left = room
    for i, width in widths.items():
        if parts[-1] and width + GAP > left:
            parts.append([])
            left = room
        parts[-1].append(i)
        left -= width + GAP
    return parts


def _text(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(shown(cell))


def _plain(cell: str | Text) -> str:
    return _text(cell).plain
