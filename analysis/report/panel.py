"""One workload's part of the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from rejoule.analysis.attribution import PhaseEnergy, method_of
from rejoule.analysis.report.badge import badge
from rejoule.analysis.report.bars import MOST_NODES, ranked_nodes, stacked
from rejoule.analysis.report.dag import node_graph, svg
from rejoule.analysis.report.figures import Figure, rounded
from rejoule.analysis.report.heatmap import heatmap
from rejoule.analysis.report.job_pareto import job_pareto
from rejoule.analysis.report.pareto import pareto
from rejoule.analysis.report.power import power_line
from rejoule.analysis.report.table import table
from rejoule.analysis.report.timeline import shortened, timeline
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.facts import components, conditions, control, steady_state, total_half_width_j
from rejoule.analysis.summary.trust import basis
from rejoule.analysis.summary.units import amount, percent
from rejoule.analysis.summary.workflows import call_notes, figure_notes, told


def panel(key: str, workload: Workload, figures: dict[str, Figure], hidden: bool) -> str:
    """The markup, and its figures under names that start with ``key``."""
    measured = any(cell.energy_j is not None for cell in workload.cells)
    boxes = [_chosen(workload)]
    facets = {name: cells for name, cells in workload.facets.items() if len(cells) > 1}
    for i, (facet, cells) in enumerate(facets.items()):
        suffix = f", {facet}" if facet else ""
        if any(cell.energy_j is not None for cell in cells):
            figures[f"{key}-energy-{i}"] = heatmap(cells, lambda cell: cell.energy_j, "J")
            boxes.append(_plot(f"Energy{suffix}", f"{key}-energy-{i}", workload, "GPU joules of the whole replay"))
        if any(cell.latency_s is not None for cell in cells):
            figures[f"{key}-latency-{i}"] = heatmap(cells, lambda cell: cell.latency_s, "s")
            boxes.append(
                _plot(f"Latency{suffix}", f"{key}-latency-{i}", None, "median workflow, arrival to last token")
            )
    if not measured:
        boxes.append(_box("Energy", '<p class="empty">Energy was not measured in these runs.</p>', None))
    if measured:
        boxes.append(_nodes(workload))
        note = "for the configuration above; means over its trials"
        metered = any(s.run.measured for cell in workload.cells for s in cell.trials)
        title = "Components, clocks and conditions" if metered else "Cap, clocks and steady state"
        boxes.append(_box(title, '<dl class="said" data-of="said"></dl>', workload, note, wide=True))
    alone = len(workload.cells) == 1
    if workload.front and not alone:
        figures[f"{key}-pareto"] = pareto(workload)
        note = "the dotted line joins what nothing beats in both; click a point to inspect it"
        boxes.append(_plot("Energy against latency", f"{key}-pareto", workload, note))
    if workload.job_front and not alone:
        figures[f"{key}-jobs"] = job_pareto(workload)
        note = "complete workflows; the dotted line joins what nothing beats in both; click a point to inspect it"
        boxes.append(_plot("Workflows an hour: a user against a GPU", f"{key}-jobs", workload, note))
    if measured and not alone:
        figures[f"{key}-nodes"] = stacked(workload)
        boxes.append(_plot("Joules by node, every configuration", f"{key}-nodes", workload, "mean over trials"))
    boxes.append(
        _box("Workflows", '<dl class="said" data-of="flows"></dl>' + _notes(workload), workload, _FLOWS, wide=True)
    )
    boxes.append(_timeline(key, workload, figures))
    runs = f'<div class="scroll tall">{table(workload)}</div>'
    boxes.append(_box("All runs", runs, workload, "click a heading to sort", wide=True))
    state = " hidden" if hidden else ""
    return (
        f'<section class="panel" id="{key}" role="tabpanel"{state}><div class="grid">{"".join(boxes)}</div></section>'
    )


def cell_data(workload: Workload, cell: Cell) -> dict[str, Any]:
    """What the page's script shows of a chosen configuration, in words already."""
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
    said = (*components(found, cell.energy_j), *control(found), *steady_state(found), *conditions(found))
    flows = [(figure.name, str(figure)) for figure in figures if figure.value is not None]
    return {"label": cell.label, "facts": facts, "said": said, "flows": flows, **_parts(workload, cell)}


_FLOWS: Final = "for the configuration above; means over its trials; docs/figures.md says what each is"


def _notes(workload: Workload) -> str:
    """What figures of workflows rest on, with the configurations that it is said of, unless it is all of them."""
    of: dict[str, list[str]] = {}
    for cell in workload.cells:
        for note in (*figure_notes(cell.trials), *call_notes(cell.trials)):
            of.setdefault(note, []).append(cell.label)
    said = (n if len(of[n]) == len(workload.cells) else f"{'; '.join(of[n])}: {n}" for n in of)
    items = "".join(f"<li>{escape(line)}</li>" for line in said)
    return f'<ul class="notes">{items}</ul>' if items else ""


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


def _chosen(workload: Workload) -> str:
    start = workload.best or workload.cells[0]
    marked = workload.best is not None and len(workload.cells) > 1
    marks = {id(cell): f" ({why})" for why, cell in workload.chosen.items()} if marked else {}
    options = "".join(
        f'<option value="{escape(c.label)}"{" selected" if c is start else ""}>'
        f"{escape(c.label)}{marks.get(id(c), '')}</option>"
        for c in workload.cells
    )
    return (
        f'<div class="wide chosen"><label>Configuration {_badge(workload)}<select>{options}</select></label>'
        "<dl></dl></div>"
    )


def _nodes(workload: Workload) -> str:
    graph = "" if workload.trace is None else f'<div class="scroll graph">{svg(node_graph(workload.trace))}</div>'
    kinds = {"prefill": "prefill", "decode": "decode"}
    if any(cell.tool_wait_j for cell in workload.cells):
        kinds["tool"] = "tool wait"
    kinds["idle"] = "idle"
    key = "".join(f'<span style="--c:var(--{c})">{name}</span>' for c, name in kinds.items())
    note = "for the configuration above; nodes, waiting and idle add up to the total"
    methods = dict.fromkeys(method_of(s.run) for cell in workload.cells for s in cell.trials)
    if tuple(methods) != ("step energies",):
        note += f"; {' or '.join(map(basis, methods))}"
    body = f'{graph}<div class="strip"></div><div class="rows" data-of="parts"></div>'
    if any(cell.agents for cell in workload.cells):
        note += "; below them, those of the nodes by agent"
        body += '<h4>By agent</h4><div class="rows" data-of="agents"></div>'
    body += f'<div class="key">{key}</div>'
    return _box("Where the joules went", body, workload, note, wide=True)


def _timeline(key: str, workload: Workload, figures: dict[str, Figure]) -> str:
    buttons, notes = [], []
    for i, (why, cell) in enumerate(workload.chosen.items()):
        name = f"{key}-time-{i}"
        figures[name] = timeline(cell.trials[0])
        notes.append(shortened(cell.trials[0]))
        pressed = "false" if i else "true"
        buttons.append(
            f'<button data-figure="{name}" aria-pressed="{pressed}">{escape(cell.label)}'
            f"{'' if len(workload.cells) == 1 else f' · {escape(why)}'}</button>"
        )
    note = "each lane is one call of a workflow at a time; drag to zoom, double-click to return"
    if any(notes):
        note += f"; shows {next(filter(None, notes))}"
    title = "Calls in time, and the power they drew"
    shown = [cell.trials[0].run for cell in workload.chosen.values()]
    if not any(power_line(run) for run in shown):
        title = "Calls in time"
        if not all(run.steps is None for run in shown):
            note += "; power over time is not shown, since only the total was measured"
    if all(run.steps is None for run in shown):
        note += "; the engine was not watched from inside, so waiting is part of prefill"
    body = f'<div class="switch">{"".join(buttons)}</div><div class="plot" data-figure="{key}-time-0"></div>'
    return _box(title, body, workload, note, wide=True)


def _plot(title: str, name: str, workload: Workload | None, note: str, wide: bool = False) -> str:
    return _box(title, f'<div class="plot" data-figure="{name}"></div>', workload, note, wide)


def _box(title: str, body: str, workload: Workload | None, note: str = "", wide: bool = False) -> str:
    label = "" if workload is None else _badge(workload)
    small = f'<span class="note">{escape(note)}</span>' if note else ""
    kind = "box wide" if wide else "box"
    return f'<section class="{kind}"><header><h3>{escape(title)}</h3>{label}{small}</header>{body}</section>'


def _badge(workload: Workload) -> str:
    return badge(s.run for cell in workload.cells for s in cell.trials)
