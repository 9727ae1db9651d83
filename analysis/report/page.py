"""The page as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

import orjson

from rejoule.analysis.attribution import Method, method_of
from rejoule.analysis.comparison.allowance import between_trials
from rejoule.analysis.report.badge import badge
from rejoule.analysis.report.figures import Figure
from rejoule.analysis.report.findings import findings
from rejoule.analysis.report.panel import cell_data, panel
from rejoule.analysis.summary.cells import Workload, gather
from rejoule.analysis.summary.evidence import start_temperatures_c
from rejoule.analysis.summary.lines import work_notes
from rejoule.analysis.summary.naming import describe, label, varying
from rejoule.traces.model import Trace
from rejoule.traces.refused import Refused
from rejoule.traces.run import Run
from rejoule.traces.runs import Experiment
from rejoule.traces.warmth import WARM
from rejoule.traces.words import counted


def render(
    runs: Sequence[Run],
    traces: Mapping[str, Trace],
    experiment: Experiment,
    title: str | None = None,
    refused: Sequence[Refused] = (),
) -> str:
    """The whole page: style, script, data and Plotly itself inside; a browser loads nothing else."""
    from plotly.offline import get_plotlyjs

    workloads = gather(runs, traces)
    figures: dict[str, Figure] = {}
    panels = "".join(panel(f"w{i}", w, figures, hidden=i > 0) for i, w in enumerate(workloads))
    cells = {f"w{i}": [cell_data(w, cell) for cell in w.cells] for i, w in enumerate(workloads)}
    data = orjson.dumps({"cells": cells, "figures": figures}).decode()
    names = [w.name for w in workloads]
    return _template("page.html").substitute(
        title=escape(title or _title(names)),
        version=escape(experiment.rejoule_version),
        lede=escape(_lede(workloads, experiment)),
        badge=badge(runs),
        facts=_facts(runs, workloads, experiment),
        warnings=_warnings(workloads) + _refused(refused, runs, experiment),
        findings="".join(_finding(f"w{i}", w) for i, w in enumerate(workloads)),
        tabs="".join(_tab(f"w{i}", name, i == 0) for i, name in enumerate(names)),
        panels=panels,
        footer=_footer(runs, experiment),
        style=_text("style.css"),
        # A '</script' in the data would end its element, and a '<!--' change how a browser reads what follows.
        data=data.replace("<", "\\u003c"),
        plotly=get_plotlyjs(),
        script=_text("script.js"),
    )


def _text(name: str) -> str:
    return files("rejoule.analysis.report").joinpath(name).read_text("utf-8")


def _template(name: str) -> Template:
    return Template(_text(name))


def _title(names: Sequence[str]) -> str:
    return f"Where the joules of {_joined(names)} went"


def _joined(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _lede(workloads: Sequence[Workload], experiment: Experiment) -> str:
    configurations = max(len(w.cells) for w in workloads)
    traces = "One recorded trace" if len(workloads) == 1 else f"{len(workloads)} recorded traces"
    trials = "once" if experiment.trials == 1 else f"{experiment.trials} times"
    many = f"each of {configurations} configurations" if configurations > 1 else "one configuration"
    return f"{traces}, replayed {trials} under {many}, with the GPU's energy attributed to every node."


def _facts(runs: Sequence[Run], workloads: Sequence[Workload], experiment: Experiment) -> str:
    configurations = [run.configuration for run in runs]
    engine = [str(run.engine.get("version") or "") for run in runs]
    facts = {
        "engine": _distinct(f"{c.engine} {v}".strip() for c, v in zip(configurations, engine, strict=True)),
        "model": _distinct(str(run.engine["model"]) for run in runs if run.engine.get("model")),
        "profile": _distinct(c.profile for c in configurations if c.profile),
        "varied": ", ".join(map(label, varying(configurations))),
        "runs": f"{len(runs)} of {len(experiment.runs)}" if len(runs) != len(experiment.runs) else str(len(runs)),
        "workflows": " + ".join(str(len(w.trace.workflows)) for w in workloads if w.trace is not None),
        "trials": str(experiment.trials),
        "seed": str(experiment.seed),
    }
    return "".join(f"<div><dt>{t}</dt><dd>{escape(v)}</dd></div>" for t, v in facts.items() if v)


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _warnings(workloads: Sequence[Workload]) -> str:
    found = [line for workload in workloads for line in _doubts(workload)]
    if not found:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in found)
    return f'<section class="warnings" role="alert"><h2>Read with care</h2><ul>{items}</ul></section>'


def _refused(refused: Sequence[Refused], runs: Sequence[Run], experiment: Experiment) -> str:
    """What the experiment left out, each reason once for all trials."""
    if not refused:
        return ""
    trace = {planned.id: planned.trace for planned in experiment.runs}
    names = varying([*(run.configuration for run in runs), *(one.configuration for one in refused)])
    found = Counter((trace.get(one.run, ""), describe(one.configuration, names), one.reason) for one in refused)
    items = "".join(
        f"<li>{escape(', '.join(filter(None, (name, knobs))))}: {escape(reason)} ({counted(times, 'run')})</li>"
        for (name, knobs, reason), times in found.items()
    )
    return f'<section class="refused"><h2>Left out</h2><ul>{items}</ul></section>'


def _doubts(workload: Workload) -> Iterator[str]:
    for cell in workload.cells:
        if cell.failed_calls:
            failed = counted(cell.failed_calls, "call")
            yield f"{workload.name}, {cell.label}: {failed} failed; it is left out of the ranking"
        elif not cell.complete:
            yield f"{workload.name}, {cell.label}: some workflows did not finish; it is left out of the ranking"
        yield from (f"{workload.name}, {cell.label}: {drift}" for drift in cell.drifts)
        if (cards := between_trials([s.run for s in cell.trials])) is not None:
            yield f"{workload.name}, {cell.label}: {cards}"
        if cell.unmet_cap:
            wanted = cell.configuration.power_cap_w
            yield f"{workload.name}: a cap of {wanted:g} W was asked for, {cell.in_force_w:g} W were in force"
    runs = [s.run for cell in workload.cells for s in cell.trials]
    apart = start_temperatures_c(runs)
    if apart is not None:
        yield f"{workload.name}: runs started at {apart[0]:.0f} to {apart[1]:.0f} °C: warmer ones take more"
    yield from (f"{workload.name}: {sentence}" for sentence in work_notes(runs))
    violations = sum(not v.startswith(WARM) for run in runs for v in run.certificate.violations)
    if violations:
        yield f"{workload.name}: {counted(violations, 'call')} did not do the work that the trace asked for"
    orders: dict[str, set[str]] = {}
    for run in runs:
        if run.certificate.order:
            orders.setdefault(run.configuration.edge_set, set()).add(run.certificate.order)
    works = {(run.certificate.tier, run.certificate.digest) for run in runs}
    if len(works) > 1 or any(len(found) > 1 for found in orders.values()):
        yield f"{workload.name}: certificates disagree, so not all of its runs did the same work"
    blind = [run for run in runs if run.energy.gpu_j is not None and run.steps is None]
    if 0 < len(blind) < len(runs):
        yield (
            f"{workload.name}: {len(blind)} of {counted(len(runs), 'run')} without step records: their joules by node "
            "are attributed from the client's times, and not comparable with those of the others"
        )
    for cell in workload.cells:
        if cell.withheld:
            yield f"{workload.name}, {cell.label}: {cell.withheld}: its joules by node are not shown"
        if cell.evidence.rejected:
            yield f"{workload.name}, {cell.label}: do not use its joules: {'; '.join(cell.evidence.rejected)}"


def _finding(key: str, workload: Workload) -> str:
    found = findings(workload)
    sentences = "".join(f"<li>{escape(s)}</li>" for s in found.sentences)
    source = badge(s.run for cell in workload.cells for s in cell.trials)
    return (
        f'<article class="finding" data-panel="{key}"><h2><button>{escape(workload.name)}</button></h2>'
        f'<p class="figure">{escape(found.figure)}</p><p class="caption">{escape(found.caption)}</p>'
        f"<ul>{sentences}</ul>{source}</article>"
    )


def _tab(key: str, name: str, selected: bool) -> str:
    state = "true" if selected else "false"
    return (
        f'<button role="tab" title="{escape(name)}" aria-selected="{state}" data-panel="{key}">'
        f"<span>{escape(name)}</span></button>"
    )


_BASES: Final[Mapping[Method, str]] = {
    "step times": "The meter reads whole runs here: their joules are spread over the engine's steps by time, idle ones "
    "included.",
    "step readings": "The energy counter ticks every tenth of a second or so: costs are fitted to stretches of half a "
    "second, and the engine's steps share what was measured in each.",
    "client readings": "Where the engine's steps were not recorded, the client's times stand in: prefill until the "
    "first token, decode after it. Costs are fitted to stretches of half a second of the energy counter.",
    "client times": "Where the engine's steps were not recorded, the client's times stand in: prefill until the first "
    "token, decode after it, and joules by time.",
}


def _footer(runs: Sequence[Run], experiment: Experiment) -> str:
    lines = [
        "A node's joules: every engine step costs a fixed amount, shared equally by the calls in its batch, and "
        "amounts for tokens decoded, prompt tokens computed and the context that both attend to, owed by their own "
        "call. The coefficients are fitted to the run itself, and what they say is scaled to the energy measured, so "
        "that nodes and idle add up to the total. ± is half of a 95 % interval.",
    ]
    lines += [_BASES[m] for m in dict.fromkeys(map(method_of, runs)) if m in _BASES]
    if not all(run.measured for run in runs):
        lines.append(
            "Modelled joules come from the simulator's profile, not from a meter. They are for comparing "
            "configurations with each other, not with measured joules."
        )
    lines.append(f"ReJoule {escape(experiment.rejoule_version)}. A dash is what could not be measured.")
    return "".join(f"<p>{line}</p>" for line in lines)
