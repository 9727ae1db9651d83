"""How many tokens of a streamed answer had come with the first pieces of its body."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

from rejoule.graphs.capture.answer import DONE, Piece, events
from rejoule.traces.model import Call

OUTPUT = ("content", "tool_calls", "reasoning", "reasoning_content")


def tokens_in(pieces: Sequence[Piece], taken: int, calls: Sequence[Call]) -> list[int]:
    """Tokens in the first ``taken`` of ``pieces``, the body of the answers to ``calls`` of one request, for each.

    Counted by ids where the server returned them; else in proportion to the events with output, of which each may
    hold several tokens where the server counted more.
    """
    part, whole = _counted(pieces[:taken]), _counted(pieces)
    found = []
    for call, choice in zip(calls, sorted(whole), strict=False):
        ids, outputs = part.get(choice, (0, 0))
        all_outputs = whole[choice][1]
        counted = call.output_tokens
        found.append(ids or (outputs if counted is None or not all_outputs else round(outputs * counted / all_outputs)))
    return found


def _counted(pieces: Sequence[Piece]) -> dict[int, tuple[int, int]]:
    """Token ids of every choice, and its events with output."""
    found: defaultdict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for _, data in events(pieces):
        if data.strip() == DONE:
            break
        try:
            for choice in json.loads(data).get("choices") or ():
                ids, delta = choice.get("token_ids") or (), choice.get("delta") or {}
                says = bool(ids or choice.get("text") or any(delta.get(name) for name in OUTPUT))
                known, outputs = found[choice.get("index", 0)]
                found[choice.get("index", 0)] = known + len(ids), outputs + says
        except (AttributeError, TypeError, ValueError):
            continue
    return dict(found)
