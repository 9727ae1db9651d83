"""What the runs say, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import fsum

from rejoule.analysis.comparison.allowance import LEAD, model_error
from rejoule.analysis.comparison.change import MARGIN
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.naming import AS_STARTED, describe, is_foreign
from rejoule.analysis.summary.units import amount, percent
from rejoule.traces.clock_curve import curve_notes, mark
from rejoule.traces.run import Run
from rejoule.traces.words import counted


@dataclass(frozen=True, slots=True)
class Finding:
    """The headline of one workload."""

    figure: str
    """The one number to remember."""
    caption: str
    sentences: tuple[str, ...]


def findings(workload: Workload) -> Finding:
    best, worst = workload.best, workload.default or workload.worst
    if best is None or best.energy_j is None:
        return Finding("–", "energy was not measured", tuple(_latency(workload)))
    if len(workload.cells) == 1:
        return _alone(best)
    if worst is None or worst is best or not worst.energy_j:
        caption = f"with {best.label}" if worst is None else "the default is the thriftiest"
        return Finding(amount(best.energy_j, "J"), caption, tuple(_sentences(workload, best)))
    saved = 1.0 - best.energy_j / worst.energy_j
    plain = worst is workload.default and not is_foreign(worst.configuration)
    against = "the default" if plain else worst.label
    runs = [s.run for cell in (best, worst) for s in cell.trials]
    off = model_error(runs)
    error = off.of("workload", LEAD)
    notes = [note for note in off.notes if note not in set(curve_notes(runs))]
    sentences = (*_sentences(workload, best), *_curve(runs), *(f"{note[0].upper()}{note[1:]}." for note in notes))
    # A model that says 1 − x is off by a factor of up to 1 + error either way.
    if error is not None and (1.0 - saved) * (1.0 + error) >= 1.0:
        caption = f"cannot tell {best.label} from {against}: {percent(saved)} is within the model's error"
        return Finding(amount(best.energy_j, "J"), caption, sentences)
    if saved <= MARGIN:
        caption = f"no difference: as much with {best.label} as with {against}, to within {100 * MARGIN:.0f} %"
        return Finding(amount(best.energy_j, "J"), caption, sentences)
    return Finding(
        f"−{percent(saved)}",
        f"energy with {best.label} instead of {against}",
        (
            f"{amount(best.energy_j, 'J')} instead of {amount(worst.energy_j, 'J')}{_latency_change(worst, best)}.",
            *sentences,
        ),
    )


def _alone(cell: Cell) -> Finding:
    """What took the joules, where there is nothing to compare them with."""
    energy, runs = cell.energy_j or 0.0, [s.run for s in cell.trials]
    if not cell.nodes or not energy:
        return Finding(amount(energy, "J"), f"with {cell.label}", ())
    name, most = max(cell.nodes.items(), key=lambda item: item[1].total_j)
    workflows, calls = len(runs[0].workflows), len(runs[0].calls)
    sentences = []
    if workflows and calls:
        sentences.append(
            f"{amount(energy / workflows, 'J')} per workflow and {amount(energy / calls, 'J')} per call "
            f"({counted(workflows, 'workflow')}, {counted(calls, 'call')})."
        )
    prefill, decode = (fsum(getattr(n, f"{phase}_j") for n in cell.nodes.values()) for phase in ("prefill", "decode"))
    shares = [f"{percent(prefill / energy)} is prefill", f"{percent(decode / energy)} decode", *_unused(cell, energy)]
    sentences.append(f"{', '.join(shares)}.")
    spread = cell.mean(lambda s: s.gpu_j)
    if spread is not None and spread.interval is not None:
        low, high = amount(spread.interval.low, "J"), amount(spread.interval.high, "J")
        sentences.append(f"95 % interval {low} to {high}, {spread.count} trials.")
    return Finding(amount(energy, "J"), f"{percent(most.total_j / energy)} of it in {name}", tuple(sentences))


def _latency_change(a: Cell, b: Cell) -> str:
    if a.latency_s is None or b.latency_s is None:
        return ""
    return f"; the median workflow takes {amount(b.latency_s, 's')} instead of {amount(a.latency_s, 's')}"


def _sentences(workload: Workload, best: Cell) -> Iterator[str]:
    if workload.knee is not None and workload.knee is not best:
        knee = workload.knee
        yield f"Best trade-off: {knee.label}, {amount(knee.energy_j, 'J')} and {amount(knee.latency_s, 's')}."
    yield from _caps(workload, best)
    yield from _nodes(best)


def _curve(runs: Sequence[Run]) -> Iterator[str]:
    """In short, as the report says above its workloads what it means."""
    marks = dict.fromkeys(filter(None, map(mark, runs)))
    if marks:
        yield f"Clock curve assumed: joules {', '.join(marks)}."


def _caps(workload: Workload, best: Cell) -> Iterator[str]:
    """What the caps did at the best batch size, and which of them never bound."""
    alike = [c for c in workload.facets[best.facet] if c.configuration.max_num_seqs == best.configuration.max_num_seqs]
    usable = [c for c in alike if c.complete and c.energy_j is not None]
    if len(usable) < 2:
        return
    loosest, tightest = usable[-1], usable[0]
    if tightest.bound_fraction and loosest.energy_j and tightest.energy_j is not None:
        words = f"{_place(best)}, the {_cap(tightest)} held the clock down"
        words += f" for {percent(tightest.bound_fraction)} of the busy time"
        words += f": {_change(tightest.energy_j / loosest.energy_j - 1.0)} energy"
        if loosest.latency_s and tightest.latency_s is not None:
            words += f", {_change(tightest.latency_s / loosest.latency_s - 1.0)} latency"
        yield f"{words} against {'the ' if loosest.configuration.power_cap_w else ''}{_cap(loosest)}."
    by_cap: dict[float, list[float | None]] = {}
    for cell in workload.cells:
        if cell.configuration.power_cap_w is not None:
            by_cap.setdefault(cell.configuration.power_cap_w, []).append(cell.bound_fraction)
    free = [f"{cap:g} W" for cap, bound in sorted(by_cap.items()) if all(b == 0.0 for b in bound)]
    if free:
        yield f"Caps of {', '.join(free)} never bound." if len(free) > 1 else f"The cap of {free[0]} never bound."


def _place(cell: Cell) -> str:
    """The batch size, and whatever else is not the cap, that a sentence about caps holds for."""
    batch = describe(cell.configuration, ("max_num_seqs",))
    where = {"default batch": "At the default batch", AS_STARTED: "With the server as it was started"}
    return ", ".join(filter(None, (where.get(batch, f"At {batch}"), cell.facet)))


def _cap(cell: Cell) -> str:
    cap = cell.configuration.power_cap_w
    if cap is None:
        return describe(cell.configuration, ("power_cap_w",))
    return f"{cap:g} W cap"


def _change(share: float) -> str:
    if abs(share) < 0.005:
        return "the same"
    return f"{percent(abs(share))} {'less' if share < 0.0 else 'more'}"


def _nodes(cell: Cell) -> Iterator[str]:
    if not cell.nodes or not cell.energy_j:
        return
    name, energy = max(cell.nodes.items(), key=lambda item: item[1].total_j)
    shares = [f"{name} takes {percent(energy.total_j / cell.energy_j)} of the joules", *_unused(cell, cell.energy_j)]
    yield f"With {cell.label}, {', '.join(shares)}."


def _unused(cell: Cell, energy_j: float) -> Iterator[str]:
    """The shares of the time without work."""
    if cell.tool_wait_j:
        yield f"{percent(cell.tool_wait_j / energy_j)} tool wait"
    if cell.idle_j is not None:
        yield f"{percent(cell.idle_j / energy_j)} idle"


def _latency(workload: Workload) -> Iterator[str]:
    known = [c for c in workload.cells if c.latency_s is not None and c.complete]
    if known:
        fastest = min(known, key=lambda c: c.latency_s or 0.0)
        yield f"Fastest: {fastest.label}, median workflow {amount(fastest.latency_s, 's')}."
