"""Energy against latency over all configurations."""

from __future__ import annotations

from rejoule.analysis.pictures.picture import Picture
from rejoule.analysis.pictures.scale import joule_scale
from rejoule.analysis.pictures.scatter import scatter
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.facts import cap_mark
from rejoule.analysis.summary.units import amount
from rejoule.traces.clock_curve import marks_note
from rejoule.traces.words import counted


def pareto(workload: Workload) -> Picture | None:
    """Every configuration as a point, coloured by batch size, with the front that none of them beats; ``None`` where
    there is nothing to compare."""
    if not workload.front or len(workload.cells) == 1:
        return None
    shown = [c for c in workload.cells if c.energy_j is not None and c.latency_s is not None]
    factor, unit = joule_scale(max((c.energy_j or 0.0 for c in shown), default=None))

    def place(cell: Cell) -> tuple[float, float]:
        return cell.latency_s or 0.0, (cell.energy_j or 0.0) / factor

    names = ("median workflow latency (s)", f"GPU energy ({unit})")
    svg = scatter(shown, workload.front, place, _said, names, _named(workload))
    left_out = len(workload.cells) - len(shown)
    note = "the dotted line joins what nothing beats in both; choose a point to inspect it"
    if left_out:
        note += f"; {counted(left_out, 'configuration')} without energy or latency left out"
    note = "; ".join(filter(None, (note, marks_note(c.trials[0].run for c in workload.cells))))
    return Picture("energy-latency", "Energy against latency", note, svg)


def _said(cell: Cell) -> list[str]:
    mark = cap_mark(cell)
    return [
        cell.label,
        f"{amount(cell.energy_j, 'J')} · {amount(cell.latency_s, 's')}",
        *([mark] if mark else []),
    ]


def _named(workload: Workload) -> dict[str, Cell]:
    """The front's knee and ends."""
    if len(workload.front) < 2:
        return {}
    named = {"fastest": workload.front[0], "least energy": workload.front[-1]}
    return named if workload.knee is None else named | {"best trade-off": workload.knee}
