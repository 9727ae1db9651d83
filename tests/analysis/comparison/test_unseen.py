"""A reader learns where a profile never saw the card or the host that runs were measured on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.analysis import builders

from rejoule.analysis.comparison.unseen import unseen_notes
from rejoule.analysis.diff import compare
from rejoule.analysis.pairing import Pair
from rejoule.analysis.report.doubts import doubts
from rejoule.analysis.summary.cells import gather
from rejoule.analysis.validate import validate
from rejoule.traces.run import Conditions, Run

SOURCE = builders.trace()
CARD, OTHER = "GPU-1111-a", "GPU-2222-b"
HOST, FAR = "CPU x 8 (aaaa)", "CPU x 8 (bbbb)"
SEEN: dict[str, Any] = {"gpus": [CARD], "hosts": [HOST]}
OFFER = "rejoule calibrate --quick"


def simulated(seen: dict[str, Any] | None = SEEN) -> Run:
    run = builders.run(SOURCE, 1)
    told = {} if seen is None else {"measured_on": seen}
    return replace(run, engine={**run.engine, "profile": "p", **told})


def measured(gpus: tuple[str, ...] = (CARD,), host: str | None = HOST) -> Run:
    run = builders.run(SOURCE, 1, engine="vllm", energy_source="nvml-counter")
    configuration = replace(run.configuration, profile=None)
    return replace(run, configuration=configuration, conditions=Conditions(gpus=gpus, host=host))


def said(simulated: Run, *others: Run) -> str:
    return " | ".join(unseen_notes([simulated, *others]))


def test_nothing_is_said_of_the_card_and_host_that_were_fitted() -> None:
    assert said(simulated(), measured()) == ""
    assert said(simulated()) == ""
    assert said(measured(), measured((OTHER,))) == ""


def test_a_card_stays_in_its_host_whatever_a_container_calls_it() -> None:
    assert said(simulated(), measured(host=FAR)) == ""
    assert said(simulated(), measured(host=None)) == ""


@pytest.mark.parametrize("host", [HOST, None])
def test_another_card_is_named_and_a_quick_calibration_offered(host: str | None) -> None:
    told = said(simulated(), measured((OTHER,), host))
    assert f"p never saw {OTHER}," in told and f"fitted to {CARD}" in told and OFFER in told


def test_another_host_is_named_beside_its_card() -> None:
    assert f"never saw {OTHER} and the host {FAR}" in said(simulated(), measured((OTHER,), FAR))


def test_one_strange_card_of_several_is_enough() -> None:
    assert f"never saw {OTHER}," in said(simulated(), measured((CARD, OTHER)))


def test_a_profile_from_data_sheets_saw_no_card() -> None:
    assert "fitted to no card" in said(simulated({"gpus": [], "hosts": []}), measured())


@pytest.mark.parametrize("calibrated", [False, True])
def test_only_what_is_true_is_said_of_a_profile_that_names_no_card(calibrated: bool) -> None:
    """One from data sheets saw none, of one that was fitted it is not known; what cards differ by says nothing here."""
    made = simulated({"gpus": [], "hosts": []})
    told = said(replace(made, engine={**made.engine, "calibrated": calibrated}), measured(), measured(()))
    assert ("not known" in told) is ("that it names" in told) is calibrated
    assert told.count(OFFER) == 1 and "differed" not in told and "never saw" not in told


def test_a_profile_of_one_gpu_that_was_put_on_two_was_fitted_to_no_two() -> None:
    """To one it may have been, and to the very one that was measured."""
    made = simulated({"gpus": [], "hosts": []})
    told = said(replace(made, engine={**made.engine, "calibrated": False, "gpus": 2}), measured())
    assert "fitted to no 2 GPUs together" in told and OFFER in told and "no card" not in told


def test_what_is_not_known_is_said_to_be() -> None:
    assert "1 of 2 measured runs did not record the card" in said(simulated(), measured(), measured(()))
    assert "is not said by these runs" in said(simulated(None), measured())


def test_validate_report_and_diff_all_say_it() -> None:
    a, b = simulated(), measured((OTHER,))
    assert any(OFFER in note for note in validate([a], [b]).notes)
    assert any(OFFER in line for workload in gather([a, b], {"trace": SOURCE}) for line in doubts(workload))
    assert any(OFFER in note for note in compare([Pair(a, b)]).notes)
