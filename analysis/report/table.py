"""All runs of a workload as a sortable table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, Final

from rejoule.analysis.report.markup import heading
from rejoule.analysis.summary.cells import GRID, Workload
from rejoule.analysis.summary.naming import is_foreign, label, varying
from rejoule.analysis.summary.summary import Summary
from rejoule.analysis.summary.units import UNKNOWN, amount, percent
from rejoule.traces.run import Configuration, knobs

Column = tuple[str, Callable[[Summary], float | None], Callable[[float | None], str]]


def _in(unit: str) -> Callable[[float | None], str]:
    return lambda value: amount(value, unit)


def _idle(summary: Summary) -> float | None:
    return None if summary.idle_j is None or not summary.gpu_j else summary.idle_j / summary.gpu_j


def _tool_wait(summary: Summary) -> float | None:
    return None if summary.tool_wait_j is None or not summary.gpu_j else summary.tool_wait_j / summary.gpu_j


COLUMNS: Final[Sequence[Column]] = (
    ("energy", lambda s: s.gpu_j, _in("J")),
    ("±", lambda s: s.evidence.uncertainty_j, _in("J")),
    ("net of idle power", lambda s: s.evidence.net_j, _in("J")),
    ("GPU core", lambda s: s.evidence.core_j, _in("J")),
    ("HBM", lambda s: s.evidence.hbm_j, _in("J")),
    ("CPU", lambda s: s.evidence.cpu_j, _in("J")),
    ("DRAM", lambda s: s.evidence.dram_j, _in("J")),
    ("per token", lambda s: s.token_j, _in("J")),
    ("tool wait", _tool_wait, percent),
    ("idle", _idle, percent),
    ("power", lambda s: s.power_w, _in("W")),
    ("makespan", lambda s: s.makespan_s, _in("s")),
    ("workflow p50", lambda s: s.figures.workflow_p50_s, _in("s")),
    ("p95", lambda s: s.figures.workflow_p95_s, _in("s")),
    ("p99", lambda s: s.figures.workflow_p99_s, _in("s")),
    ("a workflow", lambda s: s.figures.workflow_j, _in("J")),
    ("workflows an hour a GPU", lambda s: s.figures.workflows_per_gpu_h, _in("/h")),
    ("a user", lambda s: s.figures.workflows_per_user_h, _in("/h")),
    ("slowdown", lambda s: s.figures.slowdown, _in("×")),
    ("Jain", lambda s: s.figures.jain, _in("")),
    ("held", lambda s: s.figures.held_s, _in("s")),
    ("queued", lambda s: s.figures.queued_s, _in("s")),
    ("TTFT p50", lambda s: s.ttft_p50_s, _in("s")),
    ("p99", lambda s: s.ttft_p99_s, _in("s")),
    ("in force", lambda s: s.run.power_cap.in_force_w, _in("W")),
    ("bound", lambda s: s.run.power_cap.bound_fraction, percent),
    ("SM clock", lambda s: s.evidence.sm_clock_mhz, _in("MHz")),
    ("steady power", lambda s: None if s.steady is None else s.steady.power_w, _in("W")),
    ("steady per token", lambda s: None if s.steady is None else s.steady.j_per_token, _in("J")),
    ("started at", lambda s: s.evidence.start_temperature_c, _in("°C")),
    ("cached", lambda s: s.cached_tokens, _in("tokens")),
)


def table(workload: Workload) -> str:
    """Batch size and cap, whatever else varies, then the figures that any run knows; the thriftiest stands out."""
    summaries = [s for cell in workload.cells for s in cell.trials]
    columns = [column for column in COLUMNS if any(column[1](s) is not None for s in summaries)]
    names = (*GRID, *(n for n in varying(s.run.configuration for s in summaries) if n not in GRID))
    heads = [*map(label, names), "trial"]
    heads += [head for head, _, _ in columns] + ["tier", "failed"]
    best = workload.best.trials if workload.best else ()
    rows = "".join(_row(s, names, columns, any(s is b for b in best)) for s in summaries)
    head = "".join(map(heading, heads))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(summary: Summary, names: Sequence[str], columns: Sequence[Column], best: bool) -> str:
    settings = knobs(summary.run.configuration)
    cells = [_cell(settings.get(n), _setting(n, settings.get(n), summary.run.configuration)) for n in names]
    cells.append(_cell(summary.run.trial, str(summary.run.trial)))
    cells += [_cell(value(summary), shown(value(summary))) for _, value, shown in columns]
    cells.append(_cell(summary.run.certificate.tier, summary.run.certificate.tier))
    failed = len(summary.run.failed_calls)
    cells.append(_cell(failed, str(failed), "bad" if failed else ""))
    return f"<tr{' class=best' if best else ''}>{''.join(cells)}</tr>"


def _setting(name: str, value: Any, configuration: Configuration) -> str:
    if value is None and name in GRID and is_foreign(configuration):
        return "as started"
    if value is None and name == "power_cap_w" and configuration.engine != "sim":
        return "not set by ReJoule"
    if value is None:
        return "none" if name in ("power_cap_w", "policy") else "default"
    if isinstance(value, float):
        return amount(value, "W") if name == "power_cap_w" else f"{value:g}"
    return str(value)


def _cell(value: Any, shown: str, kind: str = "") -> str:
    key = "" if value is None or shown == UNKNOWN else escape(str(value))
    return f'<td data-value="{key}"{f" class={kind}" if kind else ""}>{escape(shown)}</td>'
