"""A knob that cannot be had ends its configuration, not the experiment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from rejoule.replay.engines.open import open_engine
from rejoule.replay.experiment import run_experiment
from rejoule.replay.knobs.setting import KnobRefused, Setting
from rejoule.replay.plan import plan, swept
from rejoule.traces.refused import load_refused
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun, finished
from rejoule.traces.store import trace_digest
from rejoule.traces.testing import random_trace

TRACE = random_trace(7)
REASON = KnobRefused("power_cap_w = 300 is not in force", "another program may hold it")


def made(folder: Path, **hooks: Any) -> tuple[set[float | None], list[PlannedRun]]:
    """Runs three caps × two batch sizes × two trials; the caps of the runs made, and the runs left out."""
    caps: set[float | None] = set()
    left_out: list[PlannedRun] = []
    configurations = list(swept(Configuration(), {"power_cap_w": [None, 300, 500], "max_num_seqs": [1, 4]}))
    asyncio.run(
        run_experiment(
            plan({"t": trace_digest(TRACE)}, configurations, trials=2, seed=0),
            {"t": TRACE},
            folder,
            open_engine,
            on_run=lambda run: caps.add(run.configuration.power_cap_w),
            on_refused=lambda planned, _: left_out.append(planned),
            **hooks,
        )
    )
    return caps, left_out


async def not_300(run: Run) -> Run:
    if run.configuration.power_cap_w == 300:
        raise REASON
    return run


def test_before_anything_starts(tmp_path: Path) -> None:
    """What is refused beforehand is never begun; its reason is kept, and the rest runs."""
    begun: list[float | None] = []
    caps, left_out = made(
        tmp_path / "r",
        prepare=lambda _: {Setting(300): REASON},
        on_begin=lambda planned: begun.append(planned.configuration.power_cap_w),
    )
    assert caps == {None, 500} and 300 not in begun and len(left_out) == 4
    assert {(r.run, r.reason) for r in load_refused(tmp_path / "r")} == {(r.id, str(REASON)) for r in left_out}


def test_during_the_run_and_again(tmp_path: Path) -> None:
    """A run whose cap did not hold is not kept, its like are not tried, and a repeated experiment tries again."""
    begun: list[PlannedRun] = []
    _, left_out = made(tmp_path / "r", attest=not_300, on_begin=begun.append)
    assert len(left_out) == 4 and len(finished(tmp_path / "r")) == 8
    assert sum(planned.configuration.power_cap_w == 300 for planned in begun) == 1
    caps, left_out = made(tmp_path / "r")
    assert caps == {300} and not left_out and not load_refused(tmp_path / "r")
    assert len(finished(tmp_path / "r")) == 12
