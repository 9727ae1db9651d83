"""What a difference may be off by that no number of trials shows: the model's error, or another card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any, Final

from rejoule.analysis.attribution.result import WITHOUT_WORK
from rejoule.analysis.summary.naming import label, varying
from rejoule.analysis.summary.units import percent
from rejoule.traces.clock_curve import BY, CARDS_DIFFER, curve_notes, told_widths, width
from rejoule.traces.engine_options import DEFAULTS
from rejoule.traces.modelled import is_known, tested, uncalibrated
from rejoule.traces.run import OPTION, Run
from rejoule.traces.run_options import of_the_run
from rejoule.traces.words import counted

LEAD: Final = "GPU energy"
BETWEEN_CARDS: Final[Mapping[str, float]] = {
    LEAD: CARDS_DIFFER,
    "GPU energy less idle power": 0.082,
    "GPU memory energy": 0.288,
    "energy per output token": 0.161,
    "average power": 0.181,
    "mean SM clock": 0.015,
    "steady energy per output token": 0.035,
    "steady power": 0.094,
    "makespan": 0.076,
    "workflow latency p50": 0.07,
    "workflow latency p99": 0.074,
    "time to first token p50": 0.481,
    "time to first token p99": 0.351,
    "joules by node": 0.388,
    "prefill": 2.343,
    "decode": 0.137,
    "tool wait": 4.976,
    "idle": 5.659,
}
"""The most by which the same work differed on three H200s of one model, limit and driver, relative: a table of
``python -m benchmarks.differences``. Of other rows, such as CPU energy, nothing is known."""


SAME_ERROR: Final[Mapping[str, str]] = {
    "energy per workflow": LEAD, "energy per success": LEAD, "workflows an hour a GPU": "makespan"
}  # fmt: skip
"""Figures that are another one divided by a count, or a count divided by it: its relative error is theirs."""


def key(scope: str, name: str) -> str:
    """The name under which errors of a row are known: all nodes are taken together, and agents are sums of nodes."""
    if scope == "workflows":
        return SAME_ERROR.get(name, name)
    return "joules by node" if scope in ("node", "agent") and name not in WITHOUT_WORK else name


@dataclass(frozen=True, slots=True)
class Allowance:
    """Relative errors by metric, and how to say them; a metric that is not among them has none that is known."""

    errors: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    free: Mapping[str, float] = field(default_factory=dict)
    """The same without what an assumed clock curve adds."""
    curve: tuple[str, ...] = ()
    """Those of the notes that are about it."""
    example: bool = False
    """Whether the model's part was found on another GPU or model: allowed for, and yet the model's own is not known."""

    def of(self, scope: str, name: str) -> float | None:
        return self.errors.get(key(scope, name))

    def knows(self, scope: str, name: str) -> bool:
        """Whether the model's own error on such differences is known: an example of another GPU's is not that."""
        figure = key(scope, name)
        return figure in self.errors and not self.example and (not self.curve or figure in self.free)

    def borrows(self, scope: str, name: str) -> bool:
        """Whether such an example is what is allowed for."""
        return self.of(scope, name) is not None and self.example

    def of_one(self, scope: str, name: str, runs: Iterable[Run]) -> float | None:
        """Of one configuration's ``runs``: with what its own cap and lock add, not those of others."""
        figure = key(scope, name)
        if (widest := _widest(runs, figure)) is None:
            return None
        return self.free[figure] + widest if figure in self.free else widest or None


def allowance(a: Sequence[Run], b: Sequence[Run]) -> Allowance:
    """Of the differences between paired runs."""
    if any(not run.measured for run in (*a, *b)):
        return model_error([*a, *b])
    return _between_cards(a, b)


def model_error(runs: Sequence[Run]) -> Allowance:
    """Of differences between modelled runs, by what their profile says of itself; nothing of measured ones."""
    modelled = [run for run in runs if not run.measured and run.energy.gpu_j is not None]
    if not modelled:
        return Allowance()
    if len(modelled) < len(runs):
        # Absolute joules of a card are off by more than differences are: none of what is known is about that.
        return Allowance(notes=("no error is known for a difference between modelled and measured joules",))
    found = _model_error(modelled)
    # Where no error is known, an assumed clock curve leaves as much open by itself.
    figures = found.errors or dict.fromkeys(name for run in modelled for name in told_widths(run))
    errors = {
        name: found.errors.get(name, 0.0) + most
        for name in figures
        if (most := _widest(modelled, name)) is not None and (most or name in found.errors)
    }
    curve = tuple(curve_notes(modelled))
    return Allowance(errors, (*found.notes, *curve), found.errors, curve, found.example)


def _widest(runs: Iterable[Run], figure: str) -> float | None:
    """The most that an assumed clock curve leaves open of a figure of some runs; ``None`` where one does not tell."""
    widths = [width(run, figure) for run in runs]
    known = [each for each in widths if each is not None]
    return max(known, default=0.0) if len(known) == len(widths) else None


def _model_error(modelled: Sequence[Run]) -> Allowance:
    """The same but for what an assumed clock curve adds under caps and clock locks."""
    names = dict.fromkeys(str(run.engine.get("profile", run.energy.source.get("gpu"))) for run in modelled)
    contents = {run.engine.get("profile_digest") for run in modelled} - {None}
    known = [run.engine.get("expected_error") for run in modelled]
    if len(names) == 1 < len(contents):
        return Allowance(notes=(f"no error is known for differences between two contents of {next(iter(names))}",))
    if len(names) > 1:
        return Allowance(notes=(f"no error is known for differences between profiles ({', '.join(names)})",))
    if any(found is None for found in known):
        why = f"no error is known for the profile {next(iter(names))}: what it models was not held against measurements"
        if any("expected_error" not in run.engine for run in modelled):
            why = f"these runs do not say how far the profile {next(iter(names))} is off"
        return Allowance(notes=(f"modelled, and {why}",))
    told: Mapping[str, Any] = known[0] or {}
    varied = varying(run.configuration for run in modelled)
    options = [name for name in varied if _known_option(name, modelled)]
    example = told.get("found_on")
    # What an assumed clock curve adds is added to these errors.
    curved = tuple(name for name in BY if all(width(run) is not None for run in modelled))
    odd = [name for name in varied if name not in (*told["knobs"], "seed", *options, *curved) and not of_the_run(name)]
    if odd:
        held = _listed((*told["knobs"], *told.get("options", ())))
        why = f"those of {next(iter(names))} were held against measurements in {held} alone"
        if example:
            why = f"what profiles such as {next(iter(names))} were off by on {example} is known of {held} alone"
        return Allowance(notes=(f"modelled, and no error is known for differences in {_listed(odd)}: {why}",))
    errors = {name: found["p95"] for name, found in told["metrics"].items()}
    if options:
        return _of_options(errors, [name.removeprefix(OPTION) for name in options], told, next(iter(names)))
    lead = told["metrics"].get(LEAD)
    size = (
        "" if lead is None else f" by {percent(lead['median'])} in joules (median), {percent(lead['p95'])} (95 of 100)"
    )
    which = f"{told['differences']} differences in {_listed(told['knobs'])}"
    if example:
        fitted = (
            "was not fitted to measurements"
            if uncalibrated(modelled[0])
            else "is put together of constants fitted on one card"
        )
        why = (
            f"modelled by {next(iter(names))}, which {fitted}: on {example} {which} "
            f"that such a profile predicted were off{size}; intervals and verdicts allow for that of 95 of 100, an "
            "example and not a bound"
        )
        return Allowance(errors, (why,), example=True)
    return Allowance(
        errors,
        (
            f"modelled: {which} that {next(iter(names))} predicted were off{size}; intervals and verdicts allow for "
            "that of 95 of 100",
        ),
    )


def _known_option(name: str, runs: Iterable[Run]) -> bool:
    option = name.removeprefix(OPTION)
    return option != name and all(_held(run, option) for run in runs)


def _held(run: Run, option: str) -> bool:
    error, value = tested(run.engine, option), run.configuration.options.get(option)
    return error is not None and (value in (None, DEFAULTS.get(option)) or is_known(error, value))


def _of_options(base: Mapping[str, float], options: Sequence[str], told: Mapping[str, Any], profile: str) -> Allowance:
    """Errors of options that are turned together add up; a figure of which one of them knows nothing has none."""
    found = [told["options"][option]["metrics"] for option in options]
    errors = {
        name: max(base.get(name, 0.0), fsum(metrics[name]["worst"] for metrics in found))
        for name in found[0]
        if all(name in metrics for metrics in found)
    }
    sizes = ", ".join(f"{percent(errors[name])} in {words}" for name, words in _SAID.items() if name in errors)
    workloads = min(len(told["options"][option]["workloads"]) for option in options)
    return Allowance(
        errors,
        (
            f"modelled: differences in {_listed(options)} that {profile} predicted were off by up to {sizes}, in "
            f"{counted(workloads, 'workload')}; intervals and verdicts allow for that",
        ),
    )


_SAID: Final[Mapping[str, str]] = {LEAD: "joules", "workflow latency p50": "the median workflow's time"}


def between_trials(runs: Iterable[Run]) -> str | None:
    """What the mean over trials on several GPUs is worth; ``None`` where they all ran on the same."""
    cards = [run.conditions.gpus for run in runs if run.conditions is not None and run.conditions.gpus]
    if len(set(cards)) < 2:
        return None
    return (
        f"its trials ran on different GPUs ({_uuids(cards)}): three H200s differed by up to "
        f"{percent(BETWEEN_CARDS[LEAD])} in joules at the same work, which is in the spread of these"
    )


def _between_cards(a: Sequence[Run], b: Sequence[Run]) -> Allowance:
    cards_a, cards_b = ([() if run.conditions is None else run.conditions.gpus for run in side] for side in (a, b))
    apart = sum(bool(x and y and x != y) for x, y in zip(cards_a, cards_b, strict=True))
    if not apart:
        return Allowance()
    words = f"in {apart} of {len(a)} pairs A and B ran on different GPUs ({_uuids(cards_a)}; {_uuids(cards_b)})"
    if Counter(cards_a) == Counter(cards_b):
        return Allowance(notes=(f"{words}, each as often for A as for B: their differences are in the trials' spread",))
    return Allowance(
        BETWEEN_CARDS,
        (
            f"{words}: three H200s differed by up to {percent(BETWEEN_CARDS[LEAD])} in joules at the same work, so "
            "intervals and verdicts allow for that; replay both on one GPU to compare configurations",
        ),
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(label, names))


def _uuids(cards: Iterable[Sequence[str]]) -> str:
    return ", ".join(dict.fromkeys("+".join(c[:12] for c in found) for found in cards if found))
