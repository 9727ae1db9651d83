"""Markup that sections share; whatever they put in is text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

Field = str | tuple[str, float | None]
"""What a cell says, and the number that it is sorted by if that is another: ``None`` stays below."""


def listed(sentences: Iterable[str], kind: str = "") -> str:
    """A list, or nothing."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul{_class(kind)}>{items}</ul>" if items else ""


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{_class(kind)}>{escape(text)}</p>"


def table(heads: Sequence[str], rows: Iterable[Sequence[Field]], name: str = "") -> str:
    """A table that can be sorted by its headings, a page at a time; the first column names the row.

    ``name`` is for those who hear the page.
    """
    found = list(rows)
    if not found:
        return ""
    head = "".join(heading(h) for h in heads)
    body = "".join(f"<tr>{''.join(map(_field, row))}</tr>" for row in found)
    return scrolled(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", name or heads[0])


def heading(text: str) -> str:
    """The head of a column that sorts."""
    return f'<th scope="col"><button>{escape(text)}</button></th>'


def scrolled(inside: str, name: str, kind: str = "scroll tall") -> str:
    """Room that scrolls, also by keyboard."""
    return f'<div class="{kind}" tabindex="0" role="region" aria-label="{escape(name)}">{inside}</div>'


def box(
    title: str, body: str, badge: str = "", note: str = "", wide: bool = False, save: bool = False, kind: str = ""
) -> str:
    """A card with a heading, whose joules are labelled, and what stands beside its picture."""
    small = f'<p class="note">{escape(note)}</p>' if note else ""
    tools = (
        '<span class="tools"><button data-do="save" title="save the picture as a file">Save</button>'
        '<button data-do="enlarge" title="show it as large as the window">Enlarge</button></span>'
        if save
        else ""
    )
    names = " ".join(filter(None, ("box", "wide" if wide else "", kind)))
    return f'<section class="{names}"><header><h3>{escape(title)}</h3>{badge}{tools}{small}</header>{body}</section>'


def _field(field: Field) -> str:
    text, value = (field, field) if isinstance(field, str) else field
    return f'<td data-value="{"" if value is None else escape(f"{value}")}">{escape(text)}</td>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
