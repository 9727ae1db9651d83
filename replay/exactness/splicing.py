"""Tier ``spliced``: where a prompt quotes an earlier answer, the answer of this replay is put there.

The server answers what it likes, at the recorded length, and finds in its prefix cache what it would have found if the
workflow had been run live.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from typing import Final

import numpy as np
import numpy.typing as npt

from rejoule.replay.exactness.models import Models
from rejoule.replay.exactness.requests import scaled_ids, scaled_length
from rejoule.replay.exactness.tiers import PATHS, SAMPLING, Answered, Asked, altered_ids, salted
from rejoule.traces.model import Call
from rejoule.traces.run import Configuration, Tier

SHORTEST: Final = 4
"""Fewer tokens than this may stand in a prompt without having been quoted."""
ID_BYTES: Final = 8


class Spliced:
    """Remembers this replay's answers, and puts them where the recorded prompts quote the recorded ones."""

    tier: Tier = "spliced"

    def __init__(self, configuration: Configuration, models: Models, *, cache_salt: str | None = None) -> None:
        self._configuration = configuration
        self._models = models
        self._salt = cache_salt
        self._quotes: dict[str, list[tuple[Sequence[int], Sequence[int]]]] = {}

    def ask(self, call: Call) -> Asked:
        assert call.prompt_token_ids is not None and call.token_ids
        spliced = splice(call.prompt_token_ids, self._quotes.get(call.workflow, ()))
        prompt = scaled_ids(spliced, self._configuration.input_scale)
        wanted = scaled_length(len(call.token_ids), self._configuration.output_scale)
        body = {k: v for k in (*SAMPLING, "seed") if (v := call.request.get(k)) is not None}
        body |= salted(call, self._salt)
        body |= {"model": self._models.answering(call), "prompt": prompt, "return_token_ids": True, "ignore_eos": True}
        body |= {"min_tokens": wanted, "max_tokens": wanted, "stream": True, "stream_options": {"include_usage": True}}
        # What is quoted differs from run to run; the tier promises lengths.
        changed = altered_ids(call, self._models)
        return Asked(PATHS["completions"], body, [len(prompt)], len(prompt), wanted, altered=changed)

    def heard(self, call: Call, answered: Answered) -> None:
        """Takes note of this replay's answer to a call."""
        if call.token_ids and answered.token_ids:
            # Quoted answers keep the recorded length, so that prompts do.
            now = tuple(islice(cycle(answered.token_ids), len(call.token_ids)))
            self._quotes.setdefault(call.workflow, []).append((call.token_ids, now))


def splice(prompt: Sequence[int], quotes: Iterable[tuple[Sequence[int], Sequence[int]]]) -> list[int]:
    """``prompt`` with every stretch that is the first of a pair replaced by the second, longest first.

    An answer is quoted with or without the token that ended it. Both of a pair are of one length.
    """
    ids = np.array(prompt, dtype=np.int64)
    taken = np.zeros(len(ids), dtype=bool)
    for recorded, now in sorted(quotes, key=lambda pair: -len(pair[0])):
        for length in (len(recorded), len(recorded) - 1):
            places = list(_places(ids, recorded[:length], taken)) if length >= SHORTEST else []
            for at in places:
                ids[at : at + length] = now[:length]
                taken[at : at + length] = True
            if places:
                break
    found: list[int] = ids.tolist()
    return found


def _places(ids: npt.NDArray[np.int64], piece: Sequence[int], taken: npt.NDArray[np.bool_]) -> Iterable[int]:
    raw, wanted = ids.tobytes(), np.array(piece, dtype=np.int64).tobytes()
    at = raw.find(wanted)
    while at >= 0:
        index, rest = divmod(at, ID_BYTES)
        if rest == 0 and not taken[index : index + len(piece)].any():
            yield index
            at = raw.find(wanted, at + len(wanted))
        else:
            at = raw.find(wanted, at + 1)
