from __future__ import annotations

from dataclasses import replace
from math import fsum

import pytest
from benchmarks.attribution import table
from benchmarks.made_runs import Kind, made_run

from rejoule.analysis.attribution.naive import NAIVE, all_tokens, concurrency, output_tokens, window
from rejoule.analysis.methods import METHODS, OURS, side_by_side
from rejoule.traces.run import CallResult, Certificate, Configuration, Energy, PowerCap, Reading, Run, ToolResult

CALLS = (
    CallResult("a", "w", "x", 0.0, 0.0, 4.0, 1.0, 100, 0, 30),
    CallResult("b", "w", "y", 2.0, 2.0, 6.0, 3.0, 300, 0, 10),
)
READINGS = (Reading(0.0, 2.0, 100.0), Reading(2.0, 4.0, 400.0), Reading(4.0, 10.0, 100.0))
RUN = Run(
    "r",
    "t",
    "d",
    Configuration(),
    0,
    10.0,
    CALLS,
    (),
    (),
    Energy(600.0),
    PowerCap(),
    Certificate("none", "", 0),
    readings=READINGS,
)


def test_each_method_as_defined() -> None:
    """Windows count shared joules twice, concurrency halves them, tokens ignore time."""
    assert window(RUN) == pytest.approx({"a": 500.0, "b": 400.0 + 100.0 / 3.0})
    assert concurrency(RUN) == pytest.approx({"a": 300.0, "b": 200.0 + 100.0 / 3.0})
    assert output_tokens(RUN) == pytest.approx({"a": 450.0, "b": 150.0})
    assert all_tokens(RUN) == pytest.approx({"a": 600.0 * 130 / 440, "b": 600.0 * 310 / 440})


def test_what_is_not_known_is_not_split() -> None:
    """Without energy no method has joules, and without counts none by tokens."""
    assert all(split(replace(RUN, energy=Energy())) is None for split in NAIVE.values())
    silent = replace(RUN, calls=(replace(CALLS[0], output_tokens=None), CALLS[1]))
    assert output_tokens(silent) is None and window(silent) is not None


def test_methods_side_by_side() -> None:
    """Every method has a column, and only those that conserve energy sum up to the total."""
    run, _ = made_run((Kind("chat", 300, 100), Kind("summary", 3000, 30)), 4.0, 40)
    (found,) = side_by_side([run])
    rows = {row.name: row.joules for row in found.rows}
    assert set(rows) == {"chat", "summary", "idle", "sum"} and set(rows["sum"]) == set(METHODS)
    for method in (OURS, "output tokens", "all tokens"):
        assert rows["sum"][method] == pytest.approx(run.energy.gpu_j)
    assert (rows["sum"]["window"] or 0.0) > 1.2 * (run.energy.gpu_j or 0.0)
    assert rows["idle"]["window"] is None


def test_time_without_work_has_its_own_rows() -> None:
    """Tool wait stands beside idle, so that the first column adds up to its sum."""
    run, _ = made_run((Kind("chat", 300, 100), Kind("summary", 3000, 30)), 4.0, 40)
    (found,) = side_by_side([replace(run, tools=(ToolResult("t0", "w", "chat", "tool", 0.0, run.makespan_s),))])
    ours = {row.name: row.joules[OURS] or 0.0 for row in found.rows}
    assert list(ours)[-3:] == ["tool wait", "idle", "sum"] and ours["tool wait"] > 0.0
    assert fsum(list(ours.values())[:-1]) == pytest.approx(ours["sum"], rel=1e-9)
    assert ours["sum"] == pytest.approx(run.energy.gpu_j, rel=1e-9)


def test_attribution_beats_the_usual_methods() -> None:
    """On a known engine, the median error of a call is the least by far at every load."""
    lines = list(table(0, ((1.8, 60), (6.0, 120))))
    medians = [[float(cell.split("%")[0]) for cell in line.split("|")[2:-1]] for line in lines[2:]]
    for load in range(2):
        ours, *others = (row[load] for row in medians)
        assert ours < 2.0 and fsum(others) / len(others) > 10.0 * ours
