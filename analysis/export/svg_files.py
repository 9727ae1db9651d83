"""SVG: a file a picture, light, with its source and what it leaves out in it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rejoule.analysis.export.exported import Exported, Source
from rejoule.analysis.pictures import Picture, standalone
from rejoule.analysis.pictures.bars import stacked
from rejoule.analysis.pictures.dag import dag
from rejoule.analysis.pictures.heatmap import heatmaps
from rejoule.analysis.pictures.job_pareto import job_pareto
from rejoule.analysis.pictures.pareto import pareto
from rejoule.analysis.pictures.timeline import timeline
from rejoule.analysis.summary.cells import Workload, gather
from rejoule.analysis.summary.naming import source_label
from rejoule.traces.modelled import uncalibrated


def export(source: Source) -> Exported:
    """Names of files begin with the workload's."""
    files: dict[str, bytes] = {}
    for workload in gather(source.runs, source.folder.traces):
        runs = [s.run for cell in workload.cells for s in cell.trials]
        for picture in pictures(workload):
            unfitted = " · uncalibrated" if any(map(uncalibrated, runs)) else ""
            said = f"{workload.name} · energy {source_label(runs)}{unfitted}"
            name = f"{_fit(workload.name)}-{picture.name}"
            files[f"{_free(name, files)}.svg"] = standalone(picture, said).encode()
    return Exported(files, source.notes)


def pictures(workload: Workload) -> Iterator[Picture]:
    """Those of the page, of its best configuration where there is one of one."""
    best = workload.best or workload.cells[0]
    found = (pareto(workload), job_pareto(workload), *heatmaps(workload), dag(workload, best), stacked(workload))
    yield from (picture for picture in found if picture is not None)
    yield timeline(best.trials[0], best.label)


def _fit(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "workload"


def _free(name: str, taken: dict[str, bytes]) -> str:
    """Two workloads whose names differ only in what a file's name cannot hold get files of their own."""
    number, free = 1, name
    while f"{free}.svg" in taken:
        number += 1
        free = f"{name}-{number}"
    return free
