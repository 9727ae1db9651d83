"""Markdown: the tables for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rejoule.analysis.export.exported import Exported, Source
from rejoule.analysis.report.doubts import common_doubts, doubts
from rejoule.analysis.report.findings import findings
from rejoule.analysis.summary.cells import Cell, Workload, gather
from rejoule.analysis.summary.naming import source_label
from rejoule.analysis.summary.units import amount, percent
from rejoule.analysis.summary.workflows import told


def export(source: Source) -> Exported:
    """A headline, a table of configurations and one of the best one's nodes for each workload, and what to know."""
    workloads = gather(source.runs, source.folder.traces)
    lines: list[str] = []
    for workload in workloads:
        lines += _workload(workload)
    care = [*(line for workload in workloads for line in doubts(workload)), *common_doubts(workloads)]
    if care:
        lines += ["**Read with care**", "", *(f"- {plain(line)}" for line in care), ""]
    # What is modelled is among what is to be read with care.
    said = (f"energy: {source_label(source.runs)}", *source.left_out)
    lines += [*(f"- {plain(line)}" for line in said), f"- ReJoule {plain(source.folder.experiment.rejoule_version)}"]
    return Exported({"report.md": ("\n".join(lines) + "\n").encode()}, source.notes, single=True)


def plain(text: str) -> str:
    """Text as Markdown shows it: no markup, no line of its own, and nobody is called by an @."""
    flat = re.sub(r"\s+", " ", text)
    flat = re.sub(r"([\\`*_\[\]<>|#~!$])", r"\\\1", flat.replace("&", "&amp;"))
    return flat.replace("@", "&#64;").replace("://", ":&#47;/")


def _workload(workload: Workload) -> Iterator[str]:
    found = findings(workload)
    yield f"### {plain(workload.name)}: {plain(found.figure)}"
    yield ""
    yield f"**{plain(found.caption)}**"
    yield ""
    yield from (f"- {plain(sentence)}" for sentence in found.sentences)
    yield ""
    heads = ("configuration", "GPU energy", "per output token", "idle", "median workflow", "p99", "trials")
    yield from _table(heads, map(_configuration, workload.cells))
    best = workload.best or workload.cells[0]
    if best.nodes and best.energy_j:
        whole = best.energy_j
        rows = [
            (
                name,
                amount(e.total_j, "J"),
                "" if e.uncertainty_j is None else f"± {amount(e.uncertainty_j, 'J')}",
                percent(e.total_j / whole),
            )
            for name, e in sorted(best.nodes.items(), key=lambda item: -item[1].total_j)
        ]
        rest = (("tool wait", best.tool_wait_j), ("idle", best.idle_j), ("unattributed", best.unattributed_j))
        rows += [(name, amount(j, "J"), "", percent(j / whole)) for name, j in rest if j]
        yield f"Nodes of {plain(best.label)}:"
        yield ""
        yield from _table(("node", "GPU energy", "", "share"), rows)


def _configuration(cell: Cell) -> tuple[str, ...]:
    p99 = next(figure.mean for figure in told(cell.trials) if figure.name == "workflow latency p99")
    token = cell.mean(lambda s: s.token_j)
    idle = None if cell.idle_j is None or not cell.energy_j else cell.idle_j / cell.energy_j
    return (
        cell.label,
        amount(cell.energy_j, "J"),
        amount(None if token is None else token.value, "J"),
        percent(idle),
        amount(cell.latency_s, "s"),
        p99,
        str(len(cell.trials)),
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The first column names the row; the others are figures."""
    yield _row(heads)
    yield f"|---|{'---:|' * (len(heads) - 1)}"
    yield from map(_row, rows)
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(plain, cells))} |"
