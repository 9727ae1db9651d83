"""The difference of two runs' joules by cause, node by node: pure.

Joules of each kind of work of a node are a product of what was asked, how it was served, and what it cost:

    decode:   output tokens × (steps, or tokens attended to, of each) × price × clocks
    prompts:  prompt tokens × (computed, not found in the cache) × (tokens attended to, of each) × price × clocks
    idle:     seconds × watts × clocks

The price is that of a unit of work at the greatest clock without a cap, or the fitted one; the last factor is what was
taken over that. `shapley.parts` divides each product's change among its factors, and each factor has a cause. Where the
price of equal work changes on one engine, that is because it lay in other steps. Of prompts, that may be because more
of them was computed: the change is divided among what changed of the prompts and of their steps, by how much (|log| of
the ratio).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Final, Literal, get_args

from rejoule.analysis.attribution.ledger import (
    DECODE,
    DECODE_ATTENDED,
    EXPERTS,
    PREFILL,
    PREFILL_ATTENDED,
    PROMPT_STEP,
    STEP,
)
from rejoule.analysis.causes.amounts import AGAIN, COMPUTED, DECODED, Amounts, Group
from rejoule.analysis.causes.shapley import parts

CauseName = Literal[
    "prefill",
    "prompts",
    "outputs",
    "attention",
    "batching",
    "preemption",
    "clocks",
    "engine",
    "idle",
    "tool wait",
    "left",
]
CAUSES: Final[tuple[CauseName, ...]] = get_args(CauseName)

IDLE_LINE: Final = "idle"
REST_LINE: Final = "unattributed"
IDLE_LINES: Final[tuple[CauseName, ...]] = ("tool wait", "idle")
"""Lines that are causes, in the order of amounts."""

Line = Group | str
"""A node with an agent, or what no call owes."""

MOST: Final = 10.0
"""|log| of a ratio of which one side is nothing."""

Joules = dict[tuple[Line, CauseName], float]


@dataclass(frozen=True, slots=True)
class Rule:
    """What to call the two changes that amounts do not explain."""

    price: CauseName | None = None
    """Of the same work at the same clock; ``None`` to divide it among what changed of the steps."""
    clocks: CauseName = "clocks"
    """Of what was taken over it."""
    own: bool = False
    """Whether measured sides have costs of their own each."""


def split(a: Amounts, b: Amounts, rule: Rule) -> Joules:
    """Joules of B less those of A by line and cause; they add up to the difference of the totals."""
    found: Joules = {}

    def add(line: Line, cause: CauseName, joules: float) -> None:
        if joules:
            found[line, cause] = found.get((line, cause), 0.0) + joules

    sides = (a, b)
    for group in sorted({*a.groups, *b.groups}, key=str):
        for cause, joules in _of_group([_Node.of(side, group) for side in sides], rule):
            add(group, cause, joules)
    for row, line in enumerate(IDLE_LINES):
        seconds, base, taken = ([float(side.idle[row, column]) for side in sides] for column in range(3))
        # The power of idling has nothing to do with steps.
        for name, joules in _product([(line, seconds[0], seconds[1])], base, taken, {line: 1.0}, rule):
            add(line, name, joules)
    add(IDLE_LINE, "idle", b.beside_idle_j - a.beside_idle_j)
    add(REST_LINE, "left", b.rest_j - a.rest_j)
    return found


@dataclass(frozen=True, slots=True)
class _Node:
    """What one side did for one group: each array kinds × terms."""

    owed: Sequence[Sequence[float]]
    base: Sequence[Sequence[float]]
    taken: Sequence[Sequence[float]]
    prompt_tokens: float
    emitted: float
    beside_j: float

    @staticmethod
    def of(side: Amounts, group: Group) -> _Node:
        if group not in side.groups:
            nothing = [[0.0] * side.owed.shape[2]] * 3
            return _Node(nothing, nothing, nothing, 0.0, 0.0, 0.0)
        i = side.groups.index(group)
        owed, base, taken = (array[i].tolist() for array in (side.owed, side.base_j, side.taken_j))
        return _Node(owed, base, taken, *(float(a[i]) for a in (side.prompt_tokens, side.emitted, side.beside_j)))


Factor = tuple[CauseName, float, float]
"""A cause, and an amount on either side."""


def _of_group(nodes: Sequence[_Node], rule: Rule) -> Iterable[tuple[CauseName, float]]:
    def amounts(kind: int, term: int) -> tuple[float, float]:
        return nodes[0].owed[kind][term], nodes[1].owed[kind][term]

    def product(
        kind: int, term: int, factors: Sequence[Factor], changed: Mapping[CauseName, float]
    ) -> Iterable[tuple[CauseName, float]]:
        base, taken = ([node.base[kind][term] for node in nodes], [node.taken[kind][term] for node in nodes])
        return _product(factors, base, taken, changed, rule)

    tokens = amounts(DECODED, DECODE)
    steps, contexts = amounts(DECODED, STEP), amounts(DECODED, DECODE_ATTENDED)
    changed: dict[CauseName, float] = {"batching": 1.0}
    emitted = nodes[0].emitted, nodes[1].emitted
    outputs: list[Factor] = [("outputs", *emitted)]
    if emitted != tokens:
        # Where a preempted call goes on, its prompt's last step emits a token that is not decoded.
        outputs.append(("preemption", *_each(tokens, emitted)))
    yield from product(DECODED, DECODE, outputs, changed)
    yield from product(DECODED, STEP, [*outputs, ("batching", *_each(steps, tokens))], changed)
    yield from product(DECODED, EXPERTS, [*outputs, ("batching", *_each(amounts(DECODED, EXPERTS), tokens))], changed)
    yield from product(DECODED, DECODE_ATTENDED, [*outputs, ("attention", *_each(contexts, tokens))], changed)

    computed, pairs = amounts(COMPUTED, PREFILL), amounts(COMPUTED, PREFILL_ATTENDED)
    launches, shares = amounts(COMPUTED, PROMPT_STEP), amounts(COMPUTED, STEP)
    # Who does not say how long its prompts were computed all of them.
    asked = (max(nodes[0].prompt_tokens, computed[0]), max(nodes[1].prompt_tokens, computed[1]))
    missed = _each(computed, asked)
    changed = {
        "prompts": _moved(*asked),
        "prefill": _moved(*missed),
        "batching": _moved(*shares) + _moved(*launches),
    }
    prompts: list[Factor] = [("prompts", *asked), ("prefill", *missed)]
    yield from product(COMPUTED, PREFILL, prompts, changed)
    yield from product(COMPUTED, PREFILL_ATTENDED, [*prompts, ("attention", *_each(pairs, computed))], changed)
    # More tokens of a step wake fewer further experts each: that is a matter of price.
    yield from product(COMPUTED, EXPERTS, prompts, changed)
    for term in (STEP, PROMPT_STEP):
        yield from product(COMPUTED, term, [("batching", *amounts(COMPUTED, term))], changed)
    for term in range(len(nodes[0].owed[AGAIN])):
        yield from product(AGAIN, term, [("preemption", *amounts(AGAIN, term))], {"preemption": 1.0})
    yield "left", nodes[1].beside_j - nodes[0].beside_j


def _product(
    factors: Sequence[Factor],
    base: Sequence[float],
    taken: Sequence[float],
    changed: Mapping[CauseName, float],
    rule: Rule,
) -> Iterable[tuple[CauseName, float]]:
    """The change of ``taken`` by cause; the last of the factors' products that is not nothing is the amount."""
    if taken[0] == taken[1] == 0.0:
        return
    sides = [[a for _, a, _ in factors], [b for _, _, b in factors]]
    amount = [_prod(side) for side in sides]
    if any(t and not (m and b) for t, m, b in zip(taken, amount, base, strict=True)):
        # Joules of work that is not there are nobody's.
        yield "left", taken[1] - taken[0]
        return
    price = [b / m if m else None for b, m in zip(base, amount, strict=True)]
    ratio = [t / b if b else None for t, b in zip(taken, base, strict=True)]
    # What a side did not do costs what it costs the other.
    filled = [[*side, _first(price[i], price[1 - i]), _first(ratio[i], ratio[1 - i])] for i, side in enumerate(sides)]
    found = parts(filled[0], filled[1])
    for (cause, _, _), joules in zip(factors, found, strict=False):
        yield cause, joules
    yield from _priced(found[-2], changed, rule)
    yield rule.clocks, found[-1]


def _priced(joules: float, changed: Mapping[CauseName, float], rule: Rule) -> Iterable[tuple[CauseName, float]]:
    if rule.price is not None:
        yield rule.price, joules
        return
    whole = sum(changed.values())
    if not whole:
        yield "batching", joules
        return
    for cause, moved in changed.items():
        yield cause, joules * (moved / whole)


def _each(values: tuple[float, float], amounts: tuple[float, float]) -> tuple[float, float]:
    """Values per amount; a side without any has the other's."""
    found = [v / m if m else None for v, m in zip(values, amounts, strict=True)]
    return _first(found[0], found[1]), _first(found[1], found[0])


def _first(value: float | None, other: float | None) -> float:
    return value if value is not None else other if other is not None else 0.0


def _moved(a: float, b: float) -> float:
    if a == b:
        return 0.0
    return min(MOST, abs(log(b / a))) if a > 0.0 and b > 0.0 else MOST


def _prod(values: Iterable[float]) -> float:
    found = 1.0
    for value in values:
        found *= value
    return found
