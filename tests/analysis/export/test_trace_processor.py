"""Perfetto's own trace processor reads what is exported. No registry has it: TRACE_PROCESSOR names the program."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
from collections.abc import Callable
from math import fsum

import pytest
from tests.analysis import builders
from tests.analysis.export.test_export import source

from rejoule.analysis.export.formats import exported
from rejoule.analysis.pictures.lanes import bars
from rejoule.analysis.summary.summary import summarise
from rejoule.traces.run import Run

PROGRAM = shutil.which(os.environ.get("TRACE_PROCESSOR", "trace_processor_shell"))
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no trace_processor_shell; TRACE_PROCESSOR names one")

SPANS = """
    select process.name as process, slice.category as kind, count(*) as spans,
           sum(extract_arg(slice.arg_set_id, 'args.energy_j')) as joules
    from slice join thread_track on slice.track_id = thread_track.id join thread using (utid)
    join process using (upid) group by 1, 2"""
POWER = """
    select process.name as process, sum(c.value * (c.next - c.ts) / 1e9) as joules
    from (select track_id, ts, value, lead(ts) over (partition by track_id order by ts) as next from counter) as c
    join process_counter_track as track on track.id = c.track_id join process using (upid)
    where track.name like 'GPU power%' and c.next is not null group by 1"""
LOST = "select name from stats where value > 0 and severity in ('error', 'data_loss')"

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return builders.grid({"agentic": builders.trace(3)}, [1, 8], [300.0, None])


@pytest.fixture(scope="module")
def asked(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Rows]:
    path = tmp_path_factory.mktemp("perfetto") / "trace.json.gz"
    (content,) = exported(source(runs), "perfetto").files.values()
    path.write_bytes(content)

    def ask(query: str) -> Rows:
        found = subprocess.run([str(PROGRAM), "query", str(path), query], capture_output=True, text=True, check=True)
        return list(csv.DictReader(io.StringIO(found.stdout)))

    return ask


def test_nothing_is_lost(asked: Callable[[str], Rows]) -> None:
    """It counts no error and no lost data."""
    assert asked(LOST) == []


def test_tracks_hold_every_call_tool_call_and_step(runs: list[Run], asked: Callable[[str], Rows]) -> None:
    """Of each run, on tracks of its own, with the joules of calls and steps."""
    found = {(row["process"], row["kind"]): row for row in asked(SPANS)}
    for run in runs:
        calls, steps = found[f"{run.id}: workflows", "call"], found[f"{run.id}: engine", "engine step"]
        assert int(calls["spans"]) == len(run.calls)
        assert int(found[f"{run.id}: workflows", "tool call"]["spans"]) == len(run.tools)
        busy = [step for step in run.steps or () if not step.idle]
        assert int(steps["spans"]) == len(busy)
        assert float(steps["joules"]) == pytest.approx(fsum(step.energy_j or 0.0 for step in busy), rel=1e-6)
        assert float(calls["joules"]) == pytest.approx(
            fsum(bar.joules or 0.0 for bar in bars(summarise(run))), rel=1e-6
        )


def test_the_power_track_holds_the_energy(runs: list[Run], asked: Callable[[str], Rows]) -> None:
    """Its integral is the joules of the run."""
    found = {row["process"].partition(":")[0]: float(row["joules"]) for row in asked(POWER)}
    assert found == {run.id: pytest.approx(run.energy.gpu_j, rel=1e-6) for run in runs}
