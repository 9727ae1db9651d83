"""A picture with what has to be read beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rejoule.analysis.pictures.palette import resolved
from rejoule.analysis.pictures.svg import Markup, element, words

LINE = 18
"""Height of a line of words below a picture."""


@dataclass(frozen=True, slots=True)
class Picture:
    name: str
    """Fit for a file."""
    title: str
    note: str
    """What it shows, and what it leaves out."""
    svg: Markup


def standalone(picture: Picture, source: str) -> str:
    """A file of its own: its title above, and below what it shows and whose joules these are."""
    found = re.search(r'viewBox="0 0 (\S+) (\S+)"', picture.svg)
    assert found is not None
    width, height = float(found[1]), float(found[2])
    below = [line for text in (picture.note, source) for line in _wrapped(text, int(width / 6))]
    top, bottom = 40, 14 + LINE * len(below)
    said = (words(line, 12, top + height + LINE * (i + 1), font_size=12) for i, line in enumerate(below))
    whole = element(
        "svg",
        element("rect", width="100%", height="100%", fill="var(--surface)"),
        words(picture.title, 12, 26, font_size=16, font_weight=600, fill="var(--ink)"),
        Markup(picture.svg.replace("<svg ", f'<svg y="{top}" ', 1)),
        *said,
        xmlns="http://www.w3.org/2000/svg",
        width=width,
        height=top + height + bottom,
        viewBox=f"0 0 {width:g} {top + height + bottom:g}",
        font_family="Inter, Helvetica, Arial, sans-serif",
    )
    return resolved(whole)


def _wrapped(text: str, most: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line for line in lines if line]
