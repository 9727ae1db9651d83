"""What runs lack to tell of a finding, and what to replay so that they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rejoule.analysis.findings.finding import USERS, Finding, Where
from rejoule.analysis.summary.naming import label
from rejoule.traces.run import OPTION

VALUES: Final[Mapping[str, str]] = {
    "max_num_seqs": "1,8,64",
    "power_cap_w": "300,500,700",
    "sm_clock_mhz": "1000,1500,1980",
    "input_scale": "1,2,4",
    "output_scale": "1,2,4",
    "batching": "continuous,static",
    "policy": "none,fcfs,parrot,las",
    USERS: "users:4,users:16,users:64",
}
"""Values to try of the knobs that findings are asked along, for a start."""
SWITCH: Final = "true,false"


def one_value(knob: str) -> str:
    """Why nothing can be told along a knob of which one value was run, with what would tell."""
    return f"only one value of {label(knob)} was run; replay with {sweep(knob)}"


def sweep(knob: str) -> str:
    """The option of ``rejoule replay`` that turns a knob: ``--sweep output_scale=1,2,4``."""
    values = VALUES.get(knob, SWITCH if knob.startswith(OPTION) else "A,B")
    return f"--sweep {'arrivals' if knob == USERS else knob.removeprefix(OPTION)}={values}"


def no_runs(finding: Finding) -> str:
    """Why no workload of these runs is asked: ``no runs of interactive; beside them, of sequential or agentic``."""
    sides = [words for where in (finding.where, finding.than) if where is not None and (words := _workloads(where))]
    return "no runs of such workloads" + (f": it takes {', and '.join(sides)}" if sides else "")


def _workloads(where: Where) -> str:
    words = [f"the graph {' or '.join(where.graph)}"] if where.graph else []
    words += [f"the trace {' or '.join(where.trace)}"] if where.trace else []
    words += (
        [{"chain": "calls one after another", "fan-out": "calls beside each other"}[where.shape]] if where.shape else []
    )
    return " with ".join(words)
