"""One text of a corpus."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """One text, with an id that prompts cite."""

    id: str
    title: str
    text: str
