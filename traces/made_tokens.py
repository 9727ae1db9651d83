"""Token ids made up by number: one number has one text, and two differ from their first tokens on."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

VOCABULARY: Final = range(1000, 31000)
"""Ids that the usual vocabularies have, special tokens apart."""
MARKS: Final = 3
"""Tokens that tell numbers apart: enough for 2.7e13 of them."""
STRIDE: Final = 97


class MadeTokens:
    """Texts of token ids. All come from one random sequence, begun at another place for each number, behind a mark.

    So they look random, but a compressed file of them stays small. Equal seeds and ``longest`` give equal texts.
    """

    def __init__(self, longest: int, seed: int, vocabulary: range = VOCABULARY) -> None:
        """``longest`` is the most tokens of one text; of a small ``vocabulary`` there are fewer numbers."""
        source = np.random.Generator(np.random.PCG64(seed))
        self._vocabulary = vocabulary
        once = source.integers(vocabulary.start, vocabulary.stop, size=max(longest, 1))
        self._size = len(once)
        self._ids = np.concatenate([once, once])

    def fill(self, place: NDArray[np.int64], number: int) -> None:
        """Writes the text of ``number``, as long as ``place`` is, at most ``longest`` tokens."""
        start = number * STRIDE % self._size
        place[:] = self._ids[start : start + len(place)]
        for i in range(min(MARKS, len(place))):
            number, mark = divmod(number, len(self._vocabulary))
            place[i] = self._vocabulary[mark]

    def of(self, number: int, tokens: int) -> tuple[int, ...]:
        """The first ``tokens`` ids of the text of ``number``."""
        place = np.empty(tokens, dtype=np.int64)
        self.fill(place, number)
        return tuple(place.tolist())
