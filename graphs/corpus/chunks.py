"""Cutting text into pieces of a wanted size."""

from __future__ import annotations

# English text on the tokenizers of today's models. Sizes are aimed at, not exact: the trace states the true counts.
CHARS_PER_TOKEN = 4


def chunked(text: str, tokens: int) -> list[str]:
    """Cuts text into pieces of about ``tokens`` tokens, at line or word ends; only blanks are lost."""
    size = tokens * CHARS_PER_TOKEN
    pieces = []
    start = 0
    while start < len(text):
        end = start + size
        if end < len(text):
            # A line end far back would waste half of the piece, so a word end is taken instead.
            line, word = text.rfind("\n", start, end), text.rfind(" ", start, end)
            end = next((cut for cut in (line, word) if cut > start + size // 2), end)
        if piece := text[start:end].strip():
            pieces.append(piece)
        start = end
    return pieces
