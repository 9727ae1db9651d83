"""The page as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

from rejoule.analysis.advice import Objective
from rejoule.analysis.pictures.palette import DARK, LIGHT, declared
from rejoule.analysis.report.badge import badge
from rejoule.analysis.report.material import Material
from rejoule.analysis.report.sections import ORDER
from rejoule.analysis.summary.cells import Workload
from rejoule.analysis.summary.naming import label, turned
from rejoule.traces.model import Trace
from rejoule.traces.refused import Refused
from rejoule.traces.run import Run
from rejoule.traces.runs import Experiment

SCRIPTS: Final = ("base", "choose", "map", "zoom", "timeline", "tables", "start")
"""In this order: each may use what those before it define."""


def render(
    runs: Sequence[Run],
    traces: Mapping[str, Trace],
    experiment: Experiment,
    title: str | None = None,
    refused: Sequence[Refused] = (),
    wanted: Sequence[Objective] = (),
) -> str:
    """The whole page: style, script and data inside; a browser loads nothing else."""
    material = Material(runs, traces, experiment, refused, wanted)
    workloads = material.workloads
    made = [(section, section.html(material)) for section in ORDER]
    found = [(section, html) for section, html in made if html]
    return Template(_text("page.html")).substitute(
        title=escape(title or _title([w.name for w in workloads])),
        version=escape(experiment.rejoule_version),
        lede=escape(_lede(workloads, experiment)),
        badge=badge(runs),
        facts=_facts(runs, workloads, experiment),
        links="".join(f'<a href="#{section.key}">{escape(section.title)}</a>' for section, _ in found),
        sections="".join(
            f'<section class="part" id="{section.key}" aria-labelledby="{section.key}-title">'
            f'<h2 id="{section.key}-title">{escape(section.title)}</h2>{html}</section>'
            for section, html in found
        ),
        light=declared(LIGHT),
        dark=declared(DARK),
        style=_text("style.css"),
        script="\n".join(_text(f"{name}.js") for name in SCRIPTS),
    )


def _text(name: str) -> str:
    return files("rejoule.analysis.report").joinpath("assets", name).read_text("utf-8")


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
        "varied": ", ".join(map(label, turned(configurations))),
        "runs": f"{len(runs)} of {len(experiment.runs)}" if len(runs) != len(experiment.runs) else str(len(runs)),
        "workflows": " + ".join(str(len(w.trace.workflows)) for w in workloads if w.trace is not None),
        "trials": str(experiment.trials),
        "seed": str(experiment.seed),
    }
    return "".join(f"<div><dt>{t}</dt><dd>{escape(v)}</dd></div>" for t, v in facts.items() if v)


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
