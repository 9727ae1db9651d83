"""How many tokens of a streamed answer had come with the first pieces of its body."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rejoule.graphs.capture.answer import DONE, Piece, events
from rejoule.traces.model import Call

OUTPUT = ("content", "tool_calls", "reasoning", "reasoning_content")


def tokens_in(pieces: Sequence[Piece], taken: int, call: Call) -> int:
    """Tokens in the first ``taken`` of ``pieces``, the body of the answer to ``call``.

    Counted by ids where the server returned them; else in proportion to the events with output, of which each may
    hold several tokens where the server counted more.
    """
    ids, outputs = _counted(pieces[:taken])
    if ids:
        return ids
    whole = _counted(pieces)[1]
    return outputs if call.output_tokens is None or not whole else round(outputs * call.output_tokens / whole)


def _counted(pieces: Sequence[Piece]) -> tuple[int, int]:
    """Token ids of the first choice, and its events with output."""
    ids = outputs = 0
    for _, data in events(pieces):
        if data.strip() == DONE:
            break
        try:
            choices = json.loads(data).get("choices") or ()
            for choice in choices:
                if choice.get("index", 0) == 0:
                    found, delta = choice.get("token_ids") or (), choice.get("delta") or {}
                    ids += len(found)
                    outputs += bool(found or choice.get("text") or any(delta.get(name) for name in OUTPUT))
        except (AttributeError, TypeError, ValueError):
            continue
    return ids, outputs
