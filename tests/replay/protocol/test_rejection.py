"""Whether a measured run's joules can be used."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rejoule.replay.protocol.rejection import advice, judged, rejections
from rejoule.traces.run import Certificate, Conditions, Configuration, Energy, PowerCap, Reading, Run
from rejoule.traces.runs import load_runs

H200 = Path(__file__).parents[3] / "benchmarks" / "h200"


def run(**changes: Any) -> Run:
    """A minute at 500 W that nothing is wrong with."""
    good = Run(
        id="r",
        trace="t",
        trace_digest="",
        configuration=Configuration(engine="vllm"),
        trial=0,
        makespan_s=60.0,
        calls=(),
        workflows=(),
        tools=(),
        energy=Energy(
            gpu_j=30_000.0, source={"gpu": "nvml-counter"}, uncertainty_j={"gpu": 50.0}, integrated_j=30_100.0
        ),
        power_cap=PowerCap(),
        certificate=Certificate("tokens", "", 0),
        readings=cooling([60.0] * 60),
        conditions=Conditions(thermal_s=0.0, brake_s=0.0),
    )
    return replace(good, **changes)


def cooling(degrees: list[float]) -> tuple[Reading, ...]:
    return tuple(Reading(float(i), i + 1.0, 500.0, temperature_c=t) for i, t in enumerate(degrees))


def test_a_good_run_is_kept() -> None:
    assert rejections(run()) == ()
    assert advice(run()) is None


@pytest.mark.parametrize(
    ("changes", "word", "remedy"),
    [
        ({"conditions": Conditions(thermal_s=1.5)}, "heat", "lower power cap"),
        ({"conditions": Conditions(brake_s=0.5)}, "brake", "power supply"),
        ({"conditions": Conditions(foreign_processes=(41, 42))}, "41, 42", "end them"),
        ({"energy": Energy(gpu_j=30_000.0, integrated_j=28_000.0)}, "disagree by 6.7%", "doctor"),
        ({"conditions": Conditions(loaded_w=125.0, after_w=275.0)}, "275 W after the run and 125 W before", "idle_s"),
        ({"makespan_s": 2.0, "energy": Energy(gpu_j=1_000.0, uncertainty_j={"gpu": 50.0})}, "2.0 s", "--loops 8"),
        ({"makespan_s": 2.0, "energy": Energy(gpu_j=1_000.0)}, "2.0 s", "--loops 8"),
    ],
)
def test_each_fault_is_named_with_its_remedy(changes: dict[str, Any], word: str, remedy: str) -> None:
    (reason,) = rejections(run(**changes))
    assert re.search(word, reason)
    assert remedy in reason


def test_company_on_a_gpu_is_seen_in_its_idle_power() -> None:
    """Of the runs that are kept, those beside another process are refused, and no other for that reason."""
    seen: dict[str, set[bool]] = {}
    for folder in ("company", "additivity-long", "steady", "second-gpu"):
        for found in load_runs(H200 / folder).runs:
            beside = found.configuration.options.get("company", "none") != "none"
            refused = any("something else drew power" in reason for reason in rejections(found))
            seen.setdefault(f"{folder} {beside}", set()).add(refused)
    assert seen == {
        "company True": {True},
        "company False": {False},
        "additivity-long False": {False},
        "steady False": {False},
        "second-gpu False": {False},
    }


def test_short_but_certain_is_only_remarked() -> None:
    """A short run whose uncertainty is below 1 % is kept; how it could be more certain is said."""
    short = run(makespan_s=5.0, configuration=Configuration(engine="vllm", loops=2))
    assert rejections(short) == ()
    assert "--loops 6" in (advice(short) or "")


def test_a_changing_load_is_no_fault() -> None:
    """A GPU cools where its load gets lighter; only where a run starts can be matched with another's."""
    assert rejections(run(readings=cooling([60.0] * 40 + [50.0] * 20))) == ()


def test_modelled_runs_are_not_judged() -> None:
    modelled = run(makespan_s=1.0, energy=Energy(gpu_j=1.0, source={"gpu": "model:x"}))
    assert judged(modelled) == modelled
    assert judged(run(conditions=None, makespan_s=1.0)).conditions is None


def test_earlier_reasons_are_kept() -> None:
    found = judged(run(conditions=Conditions(thermal_s=1.0, rejected=("split",)))).conditions
    assert found is not None
    assert found.rejected[0] == "split"
    assert len(found.rejected) == 2
