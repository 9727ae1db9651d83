"""All findings, asked of runs. Pure: folders in, answers out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from rejoule.analysis.findings.cliff import cliff
from rejoule.analysis.findings.ends import ends, interaction
from rejoule.analysis.findings.finding import Finding, Test, as_builtins
from rejoule.analysis.findings.lacking import no_runs
from rejoule.analysis.findings.line import linear
from rejoule.analysis.findings.optimum import disagreement, optimum
from rejoule.analysis.findings.place import Place, places
from rejoule.analysis.findings.reading import ERROR_UNKNOWN, Answer, Reading, answered
from rejoule.analysis.findings.strongest import strongest
from rejoule.analysis.summary.lines import run_notes
from rejoule.analysis.summary.naming import measured_apart
from rejoule.traces.runs import RunFolder

TESTS: Final[Mapping[Test, Callable[[Finding, Sequence[Place]], Iterator[Reading]]]] = {
    "ends": ends,
    "interaction": interaction,
    "strongest": strongest,
    "linear": linear,
    "cliff": cliff,
    "optimum": optimum,
    "disagreement": disagreement,
}


def answers(folders: Sequence[RunFolder], findings: Iterable[Finding]) -> tuple[Answer, ...]:
    """What the runs of these folders say of each finding.

    Configurations are compared within a folder only, since two folders may have seen two GPUs.
    """
    return answers_of(places(folders), findings)


def answers_of(found: Sequence[Place], findings: Iterable[Finding]) -> tuple[Answer, ...]:
    """The same of places that were looked up before."""
    return tuple(answered(one, list(TESTS[one.test](one, found)), no_runs(one)) for one in findings)


def notes(folders: Sequence[RunFolder], found: Sequence[Answer]) -> tuple[str, ...]:
    """What a reader of the answers has to know."""
    said = [*in_the_model(found)]
    if len(folders) > 1:
        said.append("configurations are compared within a folder, not across folders")
    for folder in folders:
        said += [*run_notes(folder.runs), *measured_apart(run.configuration for run in folder.runs)]
    return tuple(dict.fromkeys(said))


def in_the_model(found: Iterable[Answer]) -> Iterator[str]:
    """What verdicts rest on whose error nobody knows, if any do."""
    if any(not r.error_known and r.verdict != "cannot tell" for answer in found for r in answer.readings):
        yield f"verdicts marked 'in the model' are {ERROR_UNKNOWN}"


def of_nodes(found: Iterable[Answer]) -> Iterator[str]:
    """Why nodes of some workloads cannot be told, each reason once."""
    why: dict[str, dict[str, None]] = {}
    for each in (each for answer in found for each in answer.carried):
        for reason in each.reasons:
            why.setdefault(reason, {})[each.trace] = None
    for reason, traces in why.items():
        yield f"nodes of {', '.join(traces)}: {reason}"


def shown(answer: Answer) -> str:
    """The verdict in words: one that rests on a model of unknown error says so."""
    return said(answer.verdict, [r for r in answer.readings if r.verdict == answer.verdict])


def said(verdict: str, readings: Sequence[Reading]) -> str:
    modelled = any(r.source.startswith("modelled") and not r.error_known for r in readings)
    return f"{verdict} in the model" if modelled and verdict != "cannot tell" else verdict


def as_json(found: Sequence[Answer], said_of_them: Sequence[str]) -> dict[str, Any]:
    """For machines; ``error_known`` says of each reading whether the model's error is in its interval."""
    return {
        "findings": [
            {
                "id": a.finding.id,
                "claim": a.finding.claim,
                "source": a.finding.source,
                "verdict": a.verdict,
                "reason": a.reason,
                "basis": a.basis,
                "by_workload": dict(a.by_workload),
                "carried": [asdict(each) | {"sentence": each.sentence()} for each in a.carried],
                "readings": [asdict(reading) for reading in a.readings],
                "finding": as_builtins(a.finding),
            }
            for a in found
        ],
        "notes": list(said_of_them),
        "method": METHOD,
    }


METHOD: Final = {
    "verdict": "holds where every comparison that can tell says so, and one can; does not hold where any says not",
    "interval": "95 %, of each comparison alone: paired t on log ratios, with the error allowed for of the model",
    "carried": "nodes, judged as rejoule diff does, in the comparisons that say what the workload's verdict says; "
    "where it cannot be told, none does",
    "error_known": "false: the interval is the model's word, or allows for an example of another GPU's error",
}
