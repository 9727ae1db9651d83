"""Runs of the judge's loads, made once."""

from __future__ import annotations

from functools import cache

from benchmarks.judge.loads import LOADS
from benchmarks.judge.made import Judged, made

from rejoule.analysis.attribution import Attribution, attribute
from rejoule.traces.run import Run


@cache
def judged(load: str, seed: int = 0) -> Judged:
    (found,) = (one for one in LOADS if one.name == load)
    return made(found, seed)


def found(run: Run) -> Attribution:
    attributed = attribute(run)
    assert attributed is not None
    return attributed
