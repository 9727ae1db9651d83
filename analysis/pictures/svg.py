"""Elements of a picture as text; whatever is put in is text, never markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape as escaped
from typing import Final, NewType

Markup = NewType("Markup", str)
"""What came out of these functions, and goes in again as it is."""

_NEVER: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
"""What XML has no way to say."""

FONT = 'Inter, ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif'


def element(name: str, *inside: Markup, **attributes: object) -> Markup:
    """``font_size`` is ``font-size``, ``class_`` is ``class``; what is ``None`` is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>{''.join(inside)}</{name}>" if inside else f"<{name}{given}/>")


def words(text: str, x: float, y: float, **attributes: object) -> Markup:
    """A line of text."""
    return element("text", Markup(escape(text)), x=x, y=y, **{"fill": "var(--ink-2)", **attributes})


def title(text: str) -> Markup:
    return element("title", Markup(escape(text)))


def picked(shape: Markup, cell: str | None, said: Sequence[str]) -> Markup:
    """A shape that says something when it is pointed at, and that may be chosen where it stands for ``cell``."""
    lines = "\n".join(said)
    if cell is None:
        return element("g", shape, class_="told", data_said=lines)
    return element(
        "g", shape, class_="told pick", data_said=lines, data_cell=cell, tabindex=0, role="button", aria_label=lines
    )


def drawing(width: float, height: float, label: str, *inside: Markup) -> Markup:
    """The whole; it grows and shrinks with the room that it is given."""
    return element(
        "svg",
        *inside,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        class_="picture",
        role="group",
        aria_label=label,
        font_family=FONT,
        font_size=13,
    )


def _plain(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def escape(text: str) -> str:
    """Fit for an element or an attribute."""
    return escaped(_NEVER.sub("�", text))
