"""What is not the GPUs': CPU and DRAM energy, journals of knobs, vLLM, Python and the disk."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rejoule.replay.doctor.finding import Finding
from rejoule.replay.energy.rapl import REMEDY, ROOT, find_zones, readable
from rejoule.replay.knobs.journal import ELSEWHERE, journaled, knobs_folder, writable
from rejoule.replay.vllm.server import ServerOptions, find_vllm
from rejoule.replay.vllm.server.installation import PYTHON_VARIABLE
from rejoule.traces import RejouleError

LITTLE: Final = 2**30
"""Bytes. A day's samples of one GPU take 0.4 GB."""


def machine_findings(powercap: Path = ROOT) -> Iterator[Finding]:
    """CPU and DRAM energy, then what an experiment needs besides."""
    yield rapl_finding(powercap)
    yield journals_finding(knobs_folder())
    yield vllm_finding()
    yield Finding(
        "Python", True, f"{platform.python_version()}, {sys.executable}", facts={"version": platform.python_version()}
    )
    yield disk_finding(Path.cwd())


def rapl_finding(powercap: Path) -> Finding:
    """Whether CPU and DRAM energy can be read."""
    zones = find_zones(powercap)
    names = [f"{zone.path.name} {zone.name}" for zone in zones]
    facts = {"zones": names, "readable": readable(zones) if zones else None}
    if not zones:
        found = "there is no RAPL, as in most virtual machines: CPU and DRAM joules are missing, not 0"
        return Finding("CPU and DRAM energy", None, found, facts=facts)
    if not readable(zones):
        return Finding("CPU and DRAM energy", False, "RAPL is there, and may not be read", REMEDY, facts)
    dram = "" if any(zone.component == "dram" for zone in zones) else "; this CPU counts no DRAM"
    return Finding("CPU and DRAM energy", True, f"RAPL: {', '.join(zone.name for zone in zones)}{dram}", facts=facts)


def journals_finding(folder: Path) -> Finding:
    """Whether an experiment left a GPU changed, and whether the next one could keep what it finds."""
    try:
        uuids = journaled(folder)
    except RejouleError as error:
        return Finding("restored", False, error.what, error.remedy, {"journals": None})
    if not uuids and not writable(folder):
        found = f"{folder} cannot be written: without a journal no cap and no clock is set"
        return Finding("restored", False, found, ELSEWHERE, {"journals": []})
    if not uuids:
        return Finding("restored", True, "no experiment left a power limit or a clock changed", facts={"journals": []})
    found = f"{', '.join(uuids)} may still be as an experiment set it"
    return Finding("restored", False, found, "unless one is running: rejoule restore", {"journals": uuids})


def vllm_finding() -> Finding:
    """Which vLLM ``--engine vllm`` would start."""
    try:
        vllm = find_vllm(ServerOptions(model=""))
    except RejouleError as error:
        # Nobody needs vLLM, but who names one means it.
        named = bool(os.environ.get(PYTHON_VARIABLE))
        return Finding("vLLM", False if named else None, error.what, error.remedy, {"version": None})
    facts = {"version": vllm.version, "python": vllm.python}
    return Finding("vLLM", True, f"{vllm.version}, {vllm.python}", facts=facts)


def disk_finding(folder: Path) -> Finding:
    """Whether there is room for runs here."""
    free = shutil.disk_usage(folder).free
    remedy = None if free >= LITTLE else "runs and samples need room: free some, or write elsewhere with -o"
    return Finding("disk", free >= LITTLE, f"{free / 2**30:.1f} GiB free in {folder}", remedy, {"free_bytes": free})
