"""A finding as data: a claim, and what of runs decides it. One TOML file each; ``docs/findings.md`` explains them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from rejoule.analysis.findings.metrics import metric_names
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import OPTION, Configuration
from rejoule.traces.toml_file import read_toml

FOLDER: Final = Path(__file__).parent
REMEDY: Final = "see docs/findings.md for what a finding may say"

ORDER: Final = (
    "batch-strongest",
    "batch-shared-most",
    "batch-chains-nothing",
    "batch-agents-partly",
    "caps-modest",
    "caps-free",
    "caps-cost-time",
    "output-linear",
    "continuous-saves",
    "continuous-fills",
    "continuous-decoding",
    "prefix-cache-saves",
    "parrot-tight",
    "workflow-aware-tight",
    "workflow-aware-tighter",
    "views-disagree",
    "chains-batch",
    "fan-out-batch",
    "cache-cliff",
)
"""As the paper's abstract has them, then what others found of agents; those that are not named come last."""

Test = Literal["ends", "interaction", "strongest", "linear", "cliff", "optimum", "disagreement"]
Expect = Literal["less", "more", "same"]
Text = Annotated[str, Meta(min_length=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Multiple = Annotated[float, Meta(gt=0)]
Value = bool | int | float | str
Values = Value | list[Value]
"""Of a knob; of words, ``least``, ``most``, ``default`` and ``any`` are places among those that were run."""


class Where(Struct, frozen=True, forbid_unknown_fields=True):
    """Which runs a finding is about; what is not given is not asked for."""

    graph: list[str] = []
    """Patterns of graphs' names."""
    trace: list[str] = []
    """Patterns of traces' names."""
    shape: Literal["chain", "fan-out"] | None = None
    """Whether a workflow ever has several calls to be done at once."""
    knobs: dict[str, Values] = {}
    """Knobs that stay as they are, with their values."""
    bound_least: Share | None = None
    """The least share of the busy time in which the power cap held the clock down, at the knob's second end."""
    bound_most: Share | None = None
    """The greatest share, likewise."""
    decoding: Share | None = None
    """The least share that outputs have of all tokens that were computed, cached prompts left out."""


class Finding(Struct, frozen=True, forbid_unknown_fields=True, rename={"start": "from"}):
    """A claim, and how runs are asked about it."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    claim: Text
    source: Text
    test: Test
    knob: Text
    """What moves while all other knobs stay."""
    metric: Text
    start: Values | None = None
    """The knob's first end: a value, or ``least``, ``most``, ``default``."""
    to: Values | None = None
    """Its second end; of a list, each value that was run, and of ``any`` every other one."""
    expect: Expect = "less"
    """What becomes of the metric from the first end to the second; of an optimum, whether less of it is better."""
    by_least: Share = 0.02
    """How much counts: a smaller change is none."""
    by_most: Annotated[float, Meta(gt=0)] | None = None
    """A greater change is not what was claimed."""
    where: Where = Where()
    than: Where | None = None
    """Of an interaction: the runs in which the knob does less."""
    also: bool = False
    """Of an interaction: the knob must do something there, too."""
    other_metric: str | None = None
    """Of a disagreement: the second view."""
    other_expect: Expect = "less"
    tolerance: Share = 0.05
    """Of a line: how far a point may lie from it, relative."""
    sessions: tuple[Multiple, Multiple] | None = None
    """Of an optimum: where it lies, in multiples of the workflows that are under way at once."""
    work: Literal["equal", "any"] = "equal"
    """Whether certificates must agree: lengths change the work itself."""


NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "ends": ("start", "to"),
    "interaction": ("start", "to", "than"),
    "optimum": ("sessions",),
    "disagreement": ("other_metric",),
}


def shipped_paths() -> tuple[Path, ...]:
    """The files of the findings that come with ReJoule, in ``ORDER``."""
    places = {name: place for place, name in enumerate(ORDER)}
    return tuple(sorted(FOLDER.glob("*.toml"), key=lambda path: (places.get(path.stem, len(ORDER)), path.stem)))


def shipped() -> tuple[Finding, ...]:
    """The findings that come with ReJoule."""
    return read_all(shipped_paths())


def read_all(paths: Iterable[Path]) -> tuple[Finding, ...]:
    """Raises RejouleError for a file that is no finding, and for two of one id."""
    found: dict[str, Finding] = {}
    for path in paths:
        finding = read(path)
        if finding.id in found:
            raise RejouleError(f"{path}: a finding {finding.id!r} is there already", "give it another id")
        found[finding.id] = finding
    return tuple(found.values())


def read(path: Path) -> Finding:
    """One finding. Raises RejouleError naming what is wrong in its file."""
    finding = read_toml(path, Finding, "a finding", REMEDY)
    if wrong := problem(finding):
        raise RejouleError(f"{path}: {wrong}", REMEDY)
    return finding


def problem(finding: Finding) -> str | None:
    """What a finding lacks, or says in vain."""
    for name in NEEDED.get(finding.test, ()):
        if getattr(finding, name) is None:
            return f"the test {finding.test!r} needs {_spelt(name)}"
    used = {name for names in NEEDED.values() for name in names} - set(NEEDED.get(finding.test, ()))
    for name in sorted(used):
        if getattr(finding, name) is not None:
            return f"the test {finding.test!r} has no use for {_spelt(name)}"
    if finding.sessions is not None and finding.sessions[0] > finding.sessions[1]:
        return "sessions are the least and the most, in this order"
    if finding.test in ("optimum", "disagreement") and "same" in (finding.expect, finding.other_expect):
        return f"the test {finding.test!r} needs to know whether less or more is better"
    if finding.by_most is not None and finding.by_most <= finding.by_least:
        return "by_most is not above by_least"
    for knob in (finding.knob, *finding.where.knobs, *(finding.than or finding.where).knobs):
        if knob not in _KNOBS and not knob.startswith((OPTION, "policy_options.")):
            return f"no knob is called {knob!r}: choose among {', '.join(_KNOBS)}, or options.NAME"
    known = metric_names()
    for metric in (finding.metric, finding.other_metric):
        if metric is not None and metric not in known:
            return f"no metric is called {metric!r}: choose among {', '.join(known)}"
    return None


USERS: Final = "users"
"""The number of users of ``arrivals``, as a knob."""
_KNOBS: Final = (*(f.name for f in fields(Configuration) if not f.name.endswith("options")), USERS)


def _spelt(name: str) -> str:
    return {"start": "from"}.get(name, name)


def as_builtins(finding: Finding) -> dict[str, Any]:
    """For ``--json``: what the file said, with what it left open."""
    body: dict[str, Any] = msgspec.to_builtins(finding)
    return body
