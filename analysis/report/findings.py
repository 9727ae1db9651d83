"""What the runs say, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rejoule.analysis.report.view import Cell, Workload
from rejoule.analysis.units import amount, percent


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
    if worst is None or worst is best or not worst.energy_j:
        caption = f"with {best.label}" if worst is None else "the default is the thriftiest"
        return Finding(amount(best.energy_j, "J"), caption, tuple(_sentences(workload, best)))
    saved = 1.0 - best.energy_j / worst.energy_j
    against = "the default" if worst is workload.default else worst.label
    return Finding(
        f"−{percent(saved)}",
        f"energy with {best.label} instead of {against}",
        (
            f"{amount(best.energy_j, 'J')} instead of {amount(worst.energy_j, 'J')}{_latency_change(worst, best)}.",
            *_sentences(workload, best),
        ),
    )


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


def _caps(workload: Workload, best: Cell) -> Iterator[str]:
    """What the caps did at the best batch size, and which of them never bound."""
    alike = [c for c in workload.facets[best.facet] if c.configuration.max_num_seqs == best.configuration.max_num_seqs]
    usable = [c for c in alike if c.complete and c.energy_j is not None]
    if len(usable) < 2:
        return
    loosest, tightest = usable[-1], usable[0]
    if tightest.bound_fraction and loosest.energy_j and tightest.energy_j is not None:
        words = f"The {_cap(tightest)} held the clock down for {percent(tightest.bound_fraction)} of the busy time"
        words += f": {_change(tightest.energy_j / loosest.energy_j - 1.0)} energy"
        if loosest.latency_s and tightest.latency_s is not None:
            words += f", {_change(tightest.latency_s / loosest.latency_s - 1.0)} latency"
        yield f"{words} against {_cap(loosest)}."
    by_cap: dict[float, list[float | None]] = {}
    for cell in workload.cells:
        if cell.configuration.power_cap_w is not None:
            by_cap.setdefault(cell.configuration.power_cap_w, []).append(cell.bound_fraction)
    free = [f"{cap:g} W" for cap, bound in sorted(by_cap.items()) if all(b == 0.0 for b in bound)]
    if free:
        yield f"Caps of {', '.join(free)} never bound." if len(free) > 1 else f"The cap of {free[0]} never bound."


def _cap(cell: Cell) -> str:
    cap = cell.configuration.power_cap_w
    return "no cap" if cap is None else f"{cap:g} W cap"


def _change(share: float) -> str:
    if abs(share) < 0.005:
        return "the same"
    return f"{percent(abs(share))} {'less' if share < 0.0 else 'more'}"


def _nodes(cell: Cell) -> Iterator[str]:
    if not cell.nodes or not cell.energy_j:
        return
    name, energy = max(cell.nodes.items(), key=lambda item: item[1].total_j)
    idle = f"; {percent(cell.idle_j / cell.energy_j)} is idle" if cell.idle_j is not None else ""
    yield f"With {cell.label}, {name} takes {percent(energy.total_j / cell.energy_j)} of the joules{idle}."


def _latency(workload: Workload) -> Iterator[str]:
    known = [c for c in workload.cells if c.latency_s is not None and c.complete]
    if known:
        fastest = min(known, key=lambda c: c.latency_s or 0.0)
        yield f"Fastest: {fastest.label}, median workflow {amount(fastest.latency_s, 's')}."
