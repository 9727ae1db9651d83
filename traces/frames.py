"""Runs and their calls as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rejoule.traces.figures import figures
from rejoule.traces.modelled import uncalibrated
from rejoule.traces.percentiles import PERCENTS, percentile
from rejoule.traces.run import Run, knobs
from rejoule.traces.summary import latencies_s, total
from rejoule.traces.tabular import Columns, Tabular, columns_of


def run_row(run: Run) -> dict[str, Any]:
    """One run: its knobs, its work, its joules with their source, and its latencies."""
    energy, certificate = run.energy, run.certificate
    return {
        "run": run.id,
        "trace": run.trace,
        "trial": run.trial,
        **knobs(run.configuration),
        "calls": len(run.calls),
        "failed_calls": len(run.failed_calls),
        "workflows": len(run.workflows),
        "makespan_s": run.makespan_s,
        "prompt_tokens": total(c.prompt_tokens for c in run.calls),
        "cached_tokens": total(c.cached_tokens for c in run.calls),
        "output_tokens": total(c.output_tokens for c in run.calls),
        "gpu_j": energy.gpu_j,
        "cpu_j": energy.cpu_j,
        "dram_j": energy.dram_j,
        "idle_j": energy.idle_j,
        "gpu_source": energy.source.get("gpu"),
        "uncalibrated": uncalibrated(run),
        "gpu_uncertainty_j": energy.uncertainty_j.get("gpu"),
        "cap_in_force_w": run.power_cap.in_force_w,
        "cap_bound_fraction": run.power_cap.bound_fraction,
        **{
            f"{name}_p{percent}_s": percentile(values, percent)
            for name, values in latencies_s(run).items()
            for percent in PERCENTS
        },
        **_figures(run),
        "tier": certificate.tier,
        "exact_calls": certificate.exact_calls,
        "violations": len(certificate.violations),
        "left_out_calls": None if certificate.work is None else sum(n.amount.calls for n in certificate.work.left_out),
        "rejected": "; ".join(run.conditions.rejected) if run.conditions is not None else "",
    }


def _figures(run: Run) -> dict[str, Any]:
    """What the latencies do not say already; ``figure_notes`` say what of it is not known, and why."""
    found = asdict(figures(run))
    found["complete_workflows"] = found.pop("workflows")
    found["figure_notes"] = "; ".join(found.pop("notes"))
    return {name: value for name, value in found.items() if not name.startswith("workflow_p")}


def run_columns(runs: Iterable[Run]) -> Columns:
    return columns_of(map(run_row, runs))


@dataclass(frozen=True, slots=True)
class Calls(Tabular):
    """The calls of runs, one row a call of a run."""

    runs: Sequence[Run]

    def columns(self) -> Columns:
        return columns_of(
            {"run": run.id, "trace": run.trace, "trial": run.trial, **asdict(call)}
            for run in self.runs
            for call in run.calls
        )
