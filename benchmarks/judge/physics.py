"""What a step takes: a hard roofline, launches by the host, and experts that wake as tokens come.

Nothing here is linear in what the tool counts: a step lasts as long as the slowest of computing, reading memory and
launching, and more tokens touch more experts, but ever fewer new ones. The constants are made up, of the size of an
H200's (roofline: Williams, Waterman and Patterson, *CACM* 52:4, 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Card:
    flop_per_s: float = 5.5e14
    byte_per_s: float = 3.7e12
    flop_j: float = 0.55e-12
    byte_j: float = 70e-12
    awake_w: float = 190.0
    """Drawn while a step lasts, whatever it does."""
    idle_w: float = 118.0


@dataclass(frozen=True, slots=True)
class Launch:
    """What the host needs to start a step; a step that holds prompts goes without CUDA graphs."""

    graph_s: float = 2.5e-3
    eager_s: float = 13e-3
    graph_j: float = 0.1
    eager_j: float = 0.5


@dataclass(frozen=True, slots=True)
class Model:
    """By default of the shape of Llama-3.1-8B in 16 bits."""

    resident_bytes: float = 16e9
    """Read once a step."""
    token_flop: float = 16e9
    kv_token_bytes: float = 131_072.0
    pair_flop: float = 524_288.0
    experts: int = 0
    chosen: int = 0
    """Experts that each token goes to, of a layer."""
    experts_bytes: float = 0.0
    """All of them together."""


DENSE = Model()
EXPERTS = Model(3e9, 6.6e9, 98_304.0, 786_432.0, 128, 8, 57e9)
"""Of the shape of Qwen3-30B-A3B."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What steps hold, a value a step."""

    tokens: Array
    kv_tokens: Array
    """Tokens whose keys and values are read."""
    pairs: Array
    prompts: Array
    """How many of those who take part compute prompts."""


@dataclass(frozen=True, slots=True)
class Physics:
    card: Card = Card()
    launch: Launch = Launch()
    model: Model = DENSE
    throttles: bool = False
    """Whether the clock falls when the card has drawn much for seconds."""
    step_noise: float = 0.01
    """Standard deviation of a step's energy, relative."""
    drift_w: float = 0.0
    """Standard deviation of the slow wandering of what the card leaks, in a minute."""

    def cost(self, held: Demand, clock: Array) -> tuple[Array, Array]:
        """Seconds and joules of steps at ``clock``, 1 being the highest."""
        model, card, launch = self.model, self.card, self.launch
        flop = held.tokens * model.token_flop + held.pairs * model.pair_flop
        read = model.resident_bytes + held.kv_tokens * model.kv_token_bytes
        if model.experts:
            # The chance that none of the tokens chose an expert, if each chooses evenly.
            read = read + model.experts_bytes * (1.0 - (1.0 - model.chosen / model.experts) ** held.tokens)
        eager = held.prompts > 0.0
        host_s = np.where(eager, launch.eager_s, launch.graph_s)
        host_j = np.where(eager, launch.eager_j, launch.graph_j)
        seconds = np.maximum(np.maximum(flop / (card.flop_per_s * clock), read / card.byte_per_s), host_s)
        # Voltage falls with the clock, and the energy of switching with its square.
        return seconds, card.awake_w * seconds + card.flop_j * flop * clock**2 + card.byte_j * read + host_j
