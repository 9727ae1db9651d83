"""What a change of price is put down to: by what the two sides' configurations and clocks say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rejoule.analysis.causes.split import CauseName, Rule
from rejoule.analysis.summary.naming import label, turned
from rejoule.traces.run import OPTION, Run

SCHEDULING: Final = frozenset(
    OPTION + name
    for name in (
        "max_num_batched_tokens",
        "num_gpu_blocks",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "enable_prefix_caching",
        "enable_chunked_prefill",
        "long_prefill_token_threshold",
        "scheduling_policy",
    )
)
"""Options that say what is computed when, and not what a step costs."""

CLOCKS: Final = 0.01
"""By how much mean SM clocks differ, relative, where they differ at all."""
BOUND: Final = 0.02
"""And by how much the shares of busy time in which a cap held the clock down."""


def costly(runs: Sequence[Run]) -> tuple[str, ...]:
    """What tells the sides apart and may change what the same step costs at the same clock."""
    options = [n for n in turned(r.configuration for r in runs) if n.startswith(OPTION) and n not in SCHEDULING]
    odd = [label(name) for name in options]
    for name, words in (("profile_digest", "profile"), ("model", "model"), ("version", "engine's version")):
        if len({str(run.engine.get(name)) for run in runs}) > 1:
            odd.append(words)
    if len({len(run.conditions.gpus) for run in runs if run.conditions is not None}) > 1:
        odd.append("number of GPUs")
    return tuple(dict.fromkeys(odd))


def clocked(a: Sequence[Run], b: Sequence[Run]) -> bool | None:
    """Whether measured sides ran at other clocks; ``None`` where nothing tells."""
    if any(n in ("power_cap_w", "sm_clock_mhz") for n in turned(r.configuration for r in (*a, *b))):
        return True
    means = [[r.conditions.sm_clock_mhz for r in side if r.conditions is not None] for side in (a, b)]
    clocks = [_mean(value for value in side if value is not None) for side in means]
    if clocks[0] is None or clocks[1] is None:
        return None
    bound = [_mean(r.power_cap.bound_fraction or 0.0 for r in side) or 0.0 for side in (a, b)]
    return abs(clocks[1] / clocks[0] - 1.0) > CLOCKS or abs(bound[1] - bound[0]) > BOUND


def exact_rule(runs: Sequence[Run]) -> tuple[Rule, dict[CauseName, str]]:
    """Of runs whose steps say what they are made of, with reasons."""
    odd = costly(runs)
    if not odd:
        return Rule(), {}
    return Rule(price="engine"), {
        "engine": f"the sides differ in {', '.join(odd)}; what steps of another filling cost is in it"
    }


def fitted_rule(a: Sequence[Run], b: Sequence[Run]) -> tuple[Rule, tuple[CauseName, ...], dict[CauseName, str]]:
    """Of costs fitted to both sides: the rule, the causes that its last factor may have, and reasons."""
    odd, clocks = costly([*a, *b]), clocked(a, b)
    held: list[CauseName] = []
    if clocks:
        held.append("clocks")
    if odd:
        held.append("engine")
    if clocks is None:
        held += ["clocks", "left"] if not odd else ["clocks"]
        why = "the clocks are not known"
    elif len(held) > 1:
        why = f"the sides differ in clocks and in {', '.join(odd)}"
    else:
        why = "what the same work took more or less than the costs that fit both sides"
    held = held or ["left"]
    return Rule(clocks=held[0], own=held[0] != "left" and clocks is not None), tuple(held), {held[0]: why}


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
