from __future__ import annotations

from dataclasses import replace

import pytest
from tests.analysis import builders

from rejoule.analysis.diff import compare
from rejoule.analysis.energy import as_json, spent
from rejoule.analysis.pairing import pair
from rejoule.analysis.report import render
from rejoule.analysis.summary.cells import gather
from rejoule.analysis.summary.evidence import evidence, pooled, start_temperatures_c
from rejoule.traces.run import Conditions, Energy, Run
from rejoule.traces.runs import Experiment

TRACE = builders.trace(3)


def measured(**conditions: object) -> Run:
    run = builders.run(TRACE, 8, 300.0, engine="vllm", energy_source="nvml-counter")
    total = run.energy.gpu_j or 0.0
    energy = Energy(total, source={"gpu": "nvml-counter"}, hbm_j=0.25 * total, uncertainty_j={"gpu": 0.01 * total})
    around = Conditions(loaded_w=20.0, sm_clock_mhz=1700.0, **conditions)  # type: ignore[arg-type]
    return replace(run, energy=energy, conditions=around)


def test_components_and_net() -> None:
    """Core and memory make up the GPU, net leaves out idle power, and what no sensor told is not 0."""
    run = measured()
    total = run.energy.gpu_j or 0.0
    found = evidence(run)
    assert found.core_j == pytest.approx(0.75 * total) and found.hbm_j == pytest.approx(0.25 * total)
    assert found.net_j == pytest.approx(total - 20.0 * run.makespan_s)
    assert (found.cpu_j, found.dram_j) == (None, None)
    assert (found.in_force_w, found.bound_fraction, found.sm_clock_mhz) == (300.0, 0.25, 1700.0)
    assert pooled([found]) == found
    twice = pooled([found, found])
    assert twice.hbm_j == found.hbm_j and twice.steady is not None and found.steady is not None
    assert twice.steady.power_w == pytest.approx(found.steady.power_w)
    assert twice.steady.duration_s == pytest.approx(2 * found.steady.duration_s)


def test_unlike_starts_are_noted() -> None:
    """Runs that start more than 5 °C apart are named in table, diff and page; within that they are alike."""
    cool, warm = measured(start_temperature_c=40.0), measured(start_temperature_c=52.0)
    warm = replace(warm, trial=1, id="w")
    page = render([cool, warm], {"agentic": TRACE}, Experiment({}, (), 2, 0, "0.1.0"))
    (found,) = spent([cool, warm])
    for words in (" ".join(found.notes), " ".join(compare(pair([cool], [replace(warm, trial=0)])).notes), page):
        assert "started at 40 to 52 °C" in words
    assert start_temperatures_c([cool, measured(start_temperature_c=45.0), builders.run(TRACE)]) is None


def test_waiting_for_tools_is_not_idle() -> None:
    """Tool wait and idle are lines of their own, in the table, the diff and the page, and all parts add up."""
    run = builders.run(TRACE)
    end_s = run.makespan_s
    waited = replace(run.tools[0], start_s=end_s - 0.5, end_s=end_s - 0.2)
    run = replace(run, tools=(waited,))
    (found,) = spent([run])
    joules = {part.name: part.energy_j for part in found.parts}
    assert joules["tool wait"] > 0 and sum(joules.values()) == pytest.approx(found.gpu_j)
    rows = {row.name: row.a for row in compare(pair([run], [run])).of("node")}
    assert rows["tool wait"] == pytest.approx(joules["tool wait"]) and rows["idle"] == pytest.approx(joules["idle"])
    (cell,) = gather([run], {})[0].cells
    assert cell.tool_wait_j == pytest.approx(joules["tool wait"]) and cell.idle_j == pytest.approx(joules["idle"])


def test_rejected_joules_are_warned_of() -> None:
    """Why a run should not be used is said in the table, in the diff and on the page."""
    run = measured(rejected=("throttled by heat for 3 s",))
    (found,) = spent([run])
    assert any("throttled by heat" in note for note in found.notes)
    assert any("throttled by heat" in note for note in compare(pair([run], [run])).notes)
    page = render([run], {"agentic": TRACE}, Experiment({}, (), 1, 0, "0.1.0"))
    assert "throttled by heat" in page and "SM clock" in page


def test_every_part_has_its_interval() -> None:
    """Machines get low and high of every part whose interval is known, around its joules."""
    run = builders.run(TRACE)
    (found,) = spent([replace(run, energy=replace(run.energy, uncertainty_j={"gpu": 5.0}))])
    for part in as_json(found)["parts"]:
        assert part["low_j"] <= part["energy_j"] <= part["high_j"]
    assert found.evidence.uncertainty_j == 5.0


def test_what_does_not_fit_is_withheld() -> None:
    """Where steps do not cost what their tokens say, only sums are shown, unless it is forced."""
    run = builders.run(TRACE)
    steps = tuple(replace(s, energy_j=(s.energy_j or 0.0) * (1 + 5 * (i % 3))) for i, s in enumerate(run.steps or ()))
    wild = replace(run, steps=steps, energy=Energy(sum(s.energy_j or 0.0 for s in steps)))
    (kept,), (forced,) = spent([wild]), spent([wild], force=True)
    assert {part.name for part in kept.parts} == {"all calls", "idle"} and "poor fit" in (kept.withheld or "")
    assert any("--force" in note for note in kept.notes)
    assert set(builders.CHAIN) <= {part.name for part in forced.parts} and forced.withheld is None
    for found in (kept, forced):
        assert sum(part.energy_j for part in found.parts) == pytest.approx(found.gpu_j)
    page = render([wild], {"agentic": TRACE}, Experiment({}, (), 1, 0, "0.1.0"))
    assert "joules by node are not shown" in page
