"""The study's page, and its table in docs/findings.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.client import put
from benchmarks.studies.paper.groups import BATCHES, BEYOND, CAPS_W
from benchmarks.studies.tables import numbers, row, verdicts

from rejoule.analysis.findings.answer import answers_of, notes
from rejoule.analysis.findings.finding import Finding, read_all, shipped_paths
from rejoule.analysis.findings.kv import kv_pressure
from rejoule.analysis.findings.place import Place, places
from rejoule.traces.figures import figures
from rejoule.traces.run import Run
from rejoule.traces.runs import RunFolder

HERE: Final = Path(__file__).parent
PAGE: Final = HERE / "README.md"
DOCS: Final = HERE.parents[2] / "docs" / "findings.md"
TIGHTEST_W: Final = CAPS_W[0]


ASKED: Final = ("batch-and-cap", "engine", "policies", "users", "outputs", "alone")
"""The groups that findings are asked of; the others are tables."""


def write_page(folders: Sequence[RunFolder]) -> Path:
    """Puts tables into the page and into docs/findings.md, from runs alone."""
    known = read_all([*shipped_paths(), *sorted((HERE / "findings").glob("*.toml"))])
    there = places([folder for folder in folders if folder.path.name in ASKED])
    found = [
        answer for one in known for answer in answers_of([place for place in there if _is_asked(one, place)], [one])
    ]
    said = "\n".join(f"- {note}" for note in notes(folders, found))
    by_name = {folder.path.name: folder.runs for folder in folders}
    put(PAGE, "findings", "\n\n".join((verdicts(found), numbers(found), said)))
    put(PAGE, "batch", "\n".join(_batches(by_name)))
    put(PAGE, "caps", "\n".join(_caps(by_name["batch-and-cap"])))
    put(PAGE, "users", "\n".join(_users(by_name["users"])))
    put(PAGE, "inputs", "\n".join(_inputs(by_name["inputs"])))
    ours = {finding.id for finding in read_all(shipped_paths())}
    put(DOCS, "paper", verdicts(answer for answer in found if answer.finding.id in ours))
    return PAGE


def _is_asked(finding: Finding, place: Place) -> bool:
    """Whether runs were made for a finding; what shares no prompt is not asked as ``interactive``."""
    apart = place.workload.name.endswith("-apart") and bool(finding.where.graph)
    return place.folder.name in asked_of(finding) and not apart


def asked_of(finding: Finding) -> tuple[str, ...]:
    """The groups of runs that were made for a finding."""
    if finding.test == "strongest":
        return ("batch-and-cap", "engine", "policies", "alone")
    return {
        "max_num_seqs": ("batch-and-cap", "alone"),
        "power_cap_w": ("batch-and-cap",),
        "policy": ("policies",),
        "users": ("users",),
        "output_scale": ("outputs",),
    }.get(finding.knob, ("engine",))


def _batches(found: Mapping[str, Sequence[Run]]) -> Iterator[str]:
    """Joules a workflow by batch size, two readings of each load, and what batch 16 saves of batch 1."""
    sizes = (*BATCHES, *BEYOND)
    yield row("load, J a workflow", *(f"batch {size}" for size in sizes), "1 → 16")
    yield row("---", *["--:"] * (len(sizes) + 1))
    free = [run for run in found["batch-and-cap"] if run.configuration.power_cap_w == CAPS_W[-1]]
    yield from _by_batch(free, sizes, "16 users")
    still = [run for run in found["no-waiting"] if not run.configuration.time_scale]
    yield from _by_batch(still, sizes, "16 users, nobody thinks, tools take no time")
    yield from _by_batch(found["alone"], sizes, "one user")
    yield from _by_batch(found["as-recorded"], sizes, "as recorded, all at once")


def _by_batch(runs: Sequence[Run], sizes: Sequence[int], words: str) -> Iterator[str]:
    for trace in dict.fromkeys(run.trace for run in runs):
        joules = {run.configuration.max_num_seqs: figures(run).workflow_j or 0.0 for run in runs if run.trace == trace}
        cells = (f"{joules[size]:.0f}" if size in joules else "" for size in sizes)
        yield row(
            f"{trace}, {words}",
            *cells,
            f"{joules[16] / joules[1] - 1.0:+.0%}".replace("-0%", "0%").replace("+0%", "0%"),
        )


def signed(share: float) -> str:
    """A relative change; ``0%`` without a sign."""
    return f"{share:+.0%}" if f"{share:.0%}" not in ("0%", "-0%") else "0%"


def _caps(runs: Sequence[Run]) -> Iterator[str]:
    """At batch 16, joules and makespan under each cap against 400 W, and how long it bound."""
    yield row("load, batch 16: joules, makespan, share bound", *(f"{cap:g} W" for cap in CAPS_W[:-1]))
    yield row("---", *["--:"] * (len(CAPS_W) - 1))
    for trace in dict.fromkeys(run.trace for run in runs):
        mine = {
            run.configuration.power_cap_w: run
            for run in runs
            if run.trace == trace and run.configuration.max_num_seqs == BATCHES[-1]
        }
        free = mine[CAPS_W[-1]]
        yield row(trace, *(_against(mine[cap], free) for cap in CAPS_W[:-1]))


def _against(run: Run, free: Run) -> str:
    joules = (run.energy.gpu_j or 0.0) / (free.energy.gpu_j or 1.0) - 1.0
    bound = run.power_cap.bound_fraction or 0.0
    return f"{signed(joules)}, {signed(run.makespan_s / free.makespan_s - 1.0)}, {bound:.0%}"


def _users(runs: Sequence[Run]) -> Iterator[str]:
    """What batch 16 saves of batch 1 by the number of users, how full the cache is, and what of prompts it has."""
    counts = sorted({_count(run) for run in runs})
    yield row("load: batch 16 against 1, KV cache filled, prompts cached", *(f"{n} users" for n in counts))
    yield row("---", *["--:"] * len(counts))
    for trace in dict.fromkeys(run.trace for run in runs):
        cells = []
        for count in counts:
            mine = {r.configuration.max_num_seqs: r for r in runs if r.trace == trace and _count(r) == count}
            saved = (mine[16].energy.gpu_j or 0.0) / (mine[1].energy.gpu_j or 1.0) - 1.0
            wide = mine[64]
            cells.append(f"{signed(saved)}, {kv_pressure(wide) or 0.0:.0%}, {figures(wide).cached_share or 0.0:.0%}")
        yield row(trace, *cells)


def _count(run: Run) -> int:
    return int(run.configuration.arrivals.removeprefix("users:"))


def _inputs(runs: Sequence[Run]) -> Iterator[str]:
    """What batch size saves as prompts grow, with what happens in the KV cache at batch 16."""
    scales = sorted({run.configuration.input_scale for run in runs})
    yield row("load: batch 16 against 1, KV cache filled, preemptions", *(f"prompts ×{scale:g}" for scale in scales))
    yield row("---", *["--:"] * len(scales))
    for trace in dict.fromkeys(run.trace for run in runs):
        cells = []
        for scale in scales:
            mine = {
                r.configuration.max_num_seqs: r
                for r in runs
                if r.trace == trace and r.configuration.input_scale == scale
            }
            saved = (mine[16].energy.gpu_j or 0.0) / (mine[1].energy.gpu_j or 1.0) - 1.0
            preempted = sum(call.preemptions or 0 for call in mine[16].calls)
            cells.append(f"{signed(saved)}, {kv_pressure(mine[16]) or 0.0:.0%}, {preempted}")
        yield row(trace, *cells)
