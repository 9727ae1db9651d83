"""One workload's part of the page."""

from __future__ import annotations

from html import escape
from typing import Any, Final

from rejoule.analysis.attribution import method_of
from rejoule.analysis.pictures import Picture
from rejoule.analysis.pictures.bars import stacked
from rejoule.analysis.pictures.dag import dag
from rejoule.analysis.pictures.job_pareto import job_pareto
from rejoule.analysis.pictures.pareto import pareto
from rejoule.analysis.pictures.power import power_line
from rejoule.analysis.report.badge import badge
from rejoule.analysis.report.markup import box, listed, scrolled
from rejoule.analysis.report.packed import packed
from rejoule.analysis.report.table import table
from rejoule.analysis.summary.cells import Workload
from rejoule.analysis.summary.trust import basis
from rejoule.analysis.summary.workflows import call_notes, figure_notes

_FLOWS: Final = "for the configuration above; means over its trials; docs/figures.md says what each is"


def panel(key: str, workload: Workload, mapped: bool, timelines: dict[str, Any], hidden: bool) -> str:
    """The markup; what is said of its timelines goes under names that start with ``key``."""
    measured = any(cell.energy_j is not None for cell in workload.cells)
    label = _badge(workload)
    boxes = [_chosen(workload)]
    if not measured:
        boxes.append(box("Energy", '<p class="empty">Energy was not measured in these runs.</p>', wide=True))
    boxes += [_box(found, label) for found in (pareto(workload), job_pareto(workload)) if found is not None]
    if mapped:
        boxes += [_map(workload, label, first) for first in (0, 1)]
    if measured:
        boxes.append(_nodes(workload, label))
    boxes.append(_timeline(key, workload, timelines, label))
    bars = stacked(workload)
    if bars is not None:
        boxes.append(_box(bars, label, wide=True))
    if measured:
        note = "for the configuration above; means over its trials"
        metered = any(s.run.measured for cell in workload.cells for s in cell.trials)
        title = "Components, clocks and conditions" if metered else "Cap, clocks and steady state"
        boxes.append(box(title, '<dl class="said" data-of="said"></dl>', label, note, wide=True))
    flows = '<dl class="said" data-of="flows"></dl>' + listed(_notes(workload), "notes")
    boxes.append(box("Workflows", flows, label, _FLOWS, wide=True))
    runs = box("All runs", scrolled(table(workload), "all runs"), label, "choose a heading to sort", kind="runs")
    state = " hidden" if hidden else ""
    return (
        f'<div class="panel" id="{key}" role="tabpanel" aria-labelledby="{key}-tab"{state}>'
        f'<h3 class="of">{escape(workload.name)}</h3>'
        f'<div class="grid">{"".join(boxes)}</div>{runs}</div>'
    )


def _notes(workload: Workload) -> list[str]:
    """What figures of workflows rest on, with the configurations that it is said of, unless it is all of them."""
    of: dict[str, list[str]] = {}
    for cell in workload.cells:
        for note in (*figure_notes(cell.trials), *call_notes(cell.trials)):
            of.setdefault(note, []).append(cell.label)
    return [n if len(of[n]) == len(workload.cells) else f"{'; '.join(of[n])}: {n}" for n in of]


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
        f'<div class="wide chosen"><label>Configuration {_badge(workload)}<select class="configuration">{options}'
        '</select></label><dl aria-live="polite"></dl></div>'
    )


def _map(workload: Workload, label: str, first: int) -> str:
    """Filled in by the script, which knows what the reader chose."""
    note = "means over trials; the best is framed; choose a field to inspect it"
    body = f'<div class="choices"></div><div class="map" data-first="{first}"></div>'
    return box(("Energy", "Latency")[first] + " over two knobs", body, label, note)


def _nodes(workload: Workload, label: str) -> str:
    start = workload.best or workload.cells[0]
    graph = dag(workload, start)
    drawn = "" if graph is None else scrolled(graph.svg, "nodes of the workflow", "scroll graph")
    kinds = {"prefill": "prefill", "decode": "decode"}
    if any(cell.tool_wait_j for cell in workload.cells):
        kinds["tool"] = "tool wait"
    kinds["idle"] = "idle"
    key = "".join(f'<span style="--c:var(--{c})">{name}</span>' for c, name in kinds.items())
    note = "for the configuration above; nodes, waiting and idle add up to the total"
    methods = dict.fromkeys(method_of(s.run) for cell in workload.cells for s in cell.trials)
    if tuple(methods) != ("step energies",):
        note += f"; {' or '.join(map(basis, methods))}"
    body = f'{drawn}<div class="strip"></div><div class="rows" data-of="parts"></div>'
    if any(cell.agents for cell in workload.cells):
        note += "; below them, those of the nodes by agent"
        body += '<h4>By agent</h4><div class="rows" data-of="agents"></div>'
    body += f'<div class="key">{key}</div>'
    return box("Where the joules went", body, label, note, wide=True, save=graph is not None, kind="chosen-one")


def _timeline(key: str, workload: Workload, timelines: dict[str, Any], label: str) -> str:
    buttons, columns = [], []
    for i, (why, cell) in enumerate(workload.chosen.items()):
        name = f"{key}-time-{i}"
        timelines[name], data = packed(cell.trials[0], cell.label)
        columns.append(f'<script type="text/plain" id="{name}">{data}</script>')
        pressed = "false" if i else "true"
        buttons.append(
            f'<button data-timeline="{name}" aria-pressed="{pressed}">{escape(cell.label)}'
            f"{'' if len(workload.cells) == 1 else f' · {escape(why)}'}</button>"
        )
    note = (
        "each lane is one call of a workflow at a time; drag a box to zoom, double-click or double-tap to return; "
        "pinch, or Ctrl and the wheel; keys: + − ← → of time, [ ] ↑ ↓ of lanes, 0"
    )
    left_out = len(workload.cells) - len(workload.chosen)
    if left_out:
        note += f"; of {len(workload.cells)} configurations, these {len(workload.chosen)}, one trial each"
    title = "Calls in time, and the power they drew"
    shown = [cell.trials[0].run for cell in workload.chosen.values()]
    if not any(power_line(run) for run in shown):
        title = "Calls in time"
        if not all(run.steps is None for run in shown):
            note += "; power over time is not shown, since only the total was measured"
    if all(run.steps is None for run in shown):
        note += "; the engine was not watched from inside, so waiting is part of prefill"
    body = (
        f'<div class="switch">{"".join(buttons)}</div><span class="zoom" role="group" aria-label="zoom">'
        '<button data-zoom="in" title="closer">+</button><button data-zoom="out" title="farther">−</button>'
        '<button data-zoom="all">Whole</button></span>'
        f'<canvas class="time" data-timeline="{key}-time-0" tabindex="0" role="img" aria-label="{escape(title)}">'
        f'</canvas><div class="key lanes"></div>{"".join(columns)}'
    )
    return box(title, body, label, note, wide=True, save=True)


def _box(picture: Picture, label: str, wide: bool = False) -> str:
    name = picture.title
    return box(name, scrolled(picture.svg, name, "scroll drawn"), label, picture.note, wide, save=True)


def _badge(workload: Workload) -> str:
    return badge(s.run for cell in workload.cells for s in cell.trials)
