"""What the page's script shows of a chosen configuration, in words already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rejoule.analysis.attribution import PhaseEnergy
from rejoule.analysis.pictures.bars import MOST_NODES, ranked_nodes
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.facts import (
    by_gpu_facts,
    components,
    conditions,
    control,
    steady_state,
    total_half_width_j,
)
from rejoule.analysis.summary.units import amount, percent, rounded
from rejoule.analysis.summary.workflows import told
from rejoule.traces.by_gpu import mean_by_gpu


def cell_data(workload: Workload, cell: Cell) -> dict[str, Any]:
    idle, wait = (
        None if j is None or not cell.energy_j else j / cell.energy_j for j in (cell.idle_j, cell.tool_wait_j)
    )
    figures = told(cell.trials)
    half = total_half_width_j(cell.mean(lambda s: s.gpu_j), cell.evidence)

    def mean(unit: str, name: str) -> str:
        found = cell.mean(lambda s: getattr(s, name))
        return amount(None if found is None else found.value, unit)

    facts = [
        ("GPU energy", amount(cell.energy_j, "J") + ("" if half is None else f" ± {amount(half, 'J')}")),
        *([] if cell.evidence.net_j is None else [("net of idle power", amount(cell.evidence.net_j, "J"))]),
        ("per output token", mean("J", "token_j")),
        ("average power", mean("W", "power_w")),
        *([("tool wait", percent(wait))] if wait else []),
        ("idle", percent(idle)),
        ("median workflow", amount(cell.latency_s, "s")),
        ("p99 workflow", next(figure.mean for figure in figures if figure.name == "workflow latency p99")),
    ]
    found = cell.evidence
    gpus = by_gpu_facts(mean_by_gpu(s.run for s in cell.trials), cell.energy_j)
    said = (*components(found, cell.energy_j), *gpus, *control(found), *steady_state(found), *conditions(found))
    flows = [(figure.name, str(figure)) for figure in figures if figure.value is not None]
    return {"label": cell.label, "facts": facts, "said": said, "flows": flows, **_parts(workload, cell)}


def _parts(workload: Workload, cell: Cell) -> dict[str, list[dict[str, Any]]]:
    """``parts``: nodes by joules, each in its colour, then idle and what no step accounts for. ``agents``: the joules
    of the nodes once more, by agent."""
    total = cell.energy_j or 0.0

    def part(
        name: str, joules: float, colour: str, phases: dict[str, float], uncertainty_j: float | None = None
    ) -> dict[str, Any]:
        share = joules / total if total > 0.0 else 0.0
        shown = amount(joules, "J") + ("" if uncertainty_j is None else f" ± {amount(uncertainty_j, 'J')}")
        hover = " · ".join(f"{phase} {amount(j, 'J')}" for phase, j in phases.items())
        return {
            "name": name,
            "joules": amount(joules, "J"),
            "shown": shown,
            "percent": percent(share),
            "share": rounded(share),
            "colour": colour,
            "hover": f"{name}: {hover}",
            "phases": [(phase, rounded(j / total if total > 0.0 else 0.0)) for phase, j in phases.items()],
        }

    def ranked(parts: Mapping[str, PhaseEnergy], names: Iterable[str]) -> list[dict[str, Any]]:
        made = [
            part(
                name,
                parts[name].total_j,
                f"series-{min(i, MOST_NODES - 1)}",
                {"prefill": parts[name].prefill_j, "decode": parts[name].decode_j},
                parts[name].uncertainty_j,
            )
            for i, name in enumerate(names)
            if name in parts
        ]
        return sorted(made, key=lambda each: -float(each["share"]))

    found = ranked(cell.nodes, ranked_nodes(workload))
    if cell.withheld and cell.energy_j is not None:
        rest = cell.energy_j - sum(j or 0.0 for j in (cell.idle_j, cell.tool_wait_j, cell.unattributed_j))
        found.append(part("all calls", rest, "series-0", {"all calls": rest}))
    if cell.tool_wait_j:
        found.append(part("tool wait", cell.tool_wait_j, "tool", {"tool": cell.tool_wait_j}))
    if cell.idle_j is not None:
        found.append(part("idle", cell.idle_j, "idle", {"idle": cell.idle_j}))
    if cell.unattributed_j:
        found.append(part("unattributed", cell.unattributed_j, "line", {"line": cell.unattributed_j}))
    return {"parts": found, "agents": ranked(cell.agents, cell.agents)}
