"""What a terminal is shown: text that others wrote is never markup there, and never an escape sequence.

Names of nodes, errors of servers and ids in files may hold anything. A character that steers a terminal, or that is
none in UTF-8, is shown as its escape: ``\\x1b``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_STEERING: Final = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f"
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # of the direction of text, and line separators
    "\ud800-\udfff]"  # what is no character by itself, as in file names that are not UTF-8
)


def shown(text: str) -> str:
    """The text with what steers a terminal escaped; lines and tabs stay."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def on_one_line(text: str) -> str:
    """The same, with the ends of lines as ``\\n``."""
    return shown(text).replace("\n", "\\n").replace("\t", " ")


def say(text: str, *, err: bool = False) -> None:
    """Prints a line."""
    click.echo(shown(text), err=err)


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A rich console for text that others wrote: no markup, no highlighting, no emoji codes, nothing that steers."""
    from rich.console import Console
    from rich.segment import Segment

    class SafeConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            # Before columns are measured.
            return super().render_str(shown(text), **options)

        def render(self, *arguments: Any, **options: Any) -> Any:
            for segment in super().render(*arguments, **options):
                safe = segment.text if segment.control else shown(segment.text)
                yield segment if safe == segment.text else Segment(safe, segment.style)

    return SafeConsole(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)
