"""What the figures rest on: certificates, sources, conditions, cards, limits, and what was left out."""

from __future__ import annotations

from collections.abc import Iterable

from rejoule.analysis.proof import Around, Evidence, RunEvidence, of_runs
from rejoule.analysis.report.markup import box, listed, table
from rejoule.analysis.report.material import Material
from rejoule.analysis.summary.naming import describe, varying
from rejoule.analysis.summary.units import UNKNOWN, amount
from rejoule.traces.run import Run


def html(material: Material) -> str:
    """Tables of all runs; `rejoule export --to evidence` writes the same as one file with digests."""
    found = of_runs(material.runs, material.experiment, material.refused)
    labels = _labels(material.runs)
    proofs = table(
        ("run", "trial", "tier", "exact calls", "violations", "work", "order", "joules from", "±", "use its joules"),
        (_proof(labels[run.id], run) for run in found.runs),
        "certificates and sources",
    )
    note = "runs with equal work and order did the same; digests are shortened here, and whole in the exported evidence"
    parts = [box("Certificates and sources", proofs, note=note, wide=True)]
    around = [(run, run.conditions) for run in found.runs if run.conditions is not None]
    if around:
        rows = (_around(labels[run.id], run, held) for run, held in around)
        heads = (
            "run",
            "trial",
            "cards",
            "driver",
            "idle: bare",
            "loaded",
            "after",
            "start",
            "end",
            "warm-ups",
            "others",
        )
        note = "cards by a digest of their UUID; others are processes of somebody else on the same cards"
        parts.append(box("Conditions and cards", table(heads, rows, "conditions"), note=note, wide=True))
    parts.append(box("What these figures are, and are not", listed(found.limits), wide=True))
    left_out = [f"{one.run}: {one.reason}" for one in found.left_out]
    if left_out:
        parts.append(box("Planned and not here", listed(left_out), wide=True))
    parts.append(box("How to check this", listed(_checks(found)), wide=True))
    return f'<div class="grid">{"".join(parts)}</div>'


def _labels(runs: Iterable[Run]) -> dict[str, str]:
    listed_runs = list(runs)
    names = varying(run.configuration for run in listed_runs)
    several = len({run.trace for run in listed_runs}) > 1

    def said(run: Run) -> str:
        knobs = describe(run.configuration, names or ("max_num_seqs",))
        return f"{run.trace}, {knobs}" if several else knobs

    return {run.id: said(run) for run in listed_runs}


def _proof(label: str, run: RunEvidence) -> tuple[str, ...]:
    held = run.certificate
    return (
        label,
        str(run.trial),
        held.tier,
        f"{held.exact_calls} of {run.calls}",
        str(len(held.violations)),
        held.digest[:12] or UNKNOWN,
        held.order[:12] or UNKNOWN,
        run.energy.source.get("gpu", "not measured"),
        amount(run.energy.uncertainty_j.get("gpu"), "J"),
        f"no: {'; '.join(run.rejected)}" if run.rejected else "yes" if run.measured else "modelled",
    )


def _around(label: str, run: RunEvidence, held: Around) -> tuple[str, ...]:
    idle = (amount(watts, "W") for watts in (held.bare_w, held.loaded_w, held.after_w))
    degrees = (UNKNOWN if c is None else f"{c:.0f} °C" for c in (held.start_temperature_c, held.end_temperature_c))
    return (
        label,
        str(run.trial),
        ", ".join(card[:8] for card in held.cards) or UNKNOWN,
        held.driver or UNKNOWN,
        *idle,
        *degrees,
        UNKNOWN if held.warm_ups is None else str(held.warm_ups),
        str(held.foreign_processes),
    )


def _checks(found: Evidence) -> list[str]:
    return [
        f"{name}: the trace that was replayed has the digest {digest[:12]}" for name, digest in found.traces.items()
    ] + [
        "rejoule export RUNS --to evidence -o evidence.json writes what this page rests on, with digests of all files; "
        "rejoule export --check evidence.json RUNS compares them"
    ]
