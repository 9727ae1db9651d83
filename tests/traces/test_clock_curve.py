"""Every modelled figure under a cap or a clock lock says what its clock curve may put it off by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.analysis import builders

from rejoule.analysis.comparison.allowance import model_error
from rejoule.analysis.diff import compare
from rejoule.analysis.energy import error_notes, extremes, spent
from rejoule.analysis.pairing import pair
from rejoule.analysis.pictures.heatmap import heatmaps
from rejoule.analysis.summary.cells import gather
from rejoule.analysis.summary.facts import cap_mark
from rejoule.analysis.summary.lines import run_notes
from rejoule.replay.remarks import between_runs
from rejoule.traces.clock_curve import assumed, curve_notes, mark, may_bind, width
from rejoule.traces.run import PowerCap, Run
from rejoule.traces.summary import summary

CURVE = {
    "basis": "assumed",
    "known_from_w": 700.0,
    "known_from_mhz": 1980.0,
    "caps": [
        {"at": 200.0, "metrics": {"GPU energy": 0.3, "makespan": 0.2}},
        {"at": 400.0, "metrics": {"GPU energy": 0.1, "makespan": 0.1}},
    ],
    "clocks": [{"at": 1000.0, "metrics": {"GPU energy": 0.04}}],
}
KNOWN = {"knobs": ["max_num_seqs"], "differences": 72, "metrics": {"GPU energy": {"median": 0.01, "p95": 0.05}}}


def run(cap_w: float | None = None, clock: float | None = None, bound: float | None = 1.0, **engine: Any) -> Run:
    held = builders.run(builders.trace(), 8)
    configuration = replace(held.configuration, power_cap_w=cap_w, sm_clock_mhz=clock)
    told = {"profile": "made-up", "clock_curve": CURVE, "expected_error": KNOWN, **engine}
    return replace(held, configuration=configuration, engine=told, power_cap=PowerCap(cap_w, cap_w or 700.0, bound))


@pytest.mark.parametrize(
    ("cap_w", "clock", "bound", "off"),
    [
        (200, None, 1.0, 0.3),
        (300, None, 1.0, 0.2),
        (550, None, 1.0, 0.05),
        (700, None, 1.0, 0.0),
        (300, None, 0.0, 0.0),
        (None, 1490, None, 0.02),
        (300, 1000, 0.5, 0.24),
        (150, None, 1.0, None),
        (None, None, 0.4, 0.0),
    ],
)
def test_the_width_lies_on_the_profiles_table(cap_w: float, clock: float, bound: float, off: float | None) -> None:
    """Linear between caps and up to where the curve is known; none if the cap never bound, unknown below the table."""
    found = width(run(cap_w, clock, bound))
    assert found == (None if off is None else pytest.approx(off))


@pytest.mark.parametrize("engine", [{"clock_curve": None}, {"clock_curve": CURVE | {"caps": []}}])
def test_a_width_that_nobody_knows_is_called_unknown(engine: dict[str, Any]) -> None:
    """Runs that do not say how their curve was found, and profiles without a table: never 0, and said."""
    made = run(350, **engine)
    assert width(made) is None and mark(made) == "± not known"
    assert "± not known at 350 W" in " ".join(curve_notes([made]))
    assert model_error([made, run(**engine)]).of("workload", "GPU energy") is None


def test_a_measured_run_and_a_measured_curve_assume_nothing() -> None:
    measured = replace(run(350), configuration=replace(run(350).configuration, engine="vllm"))
    known = run(350, clock_curve={"basis": "measured", "known_from_w": 300.0, "known_from_mhz": 900.0})
    for made in (measured, known):
        assert (assumed(made), mark(made), list(curve_notes([made]))) == ((), "", [])


def test_the_width_stands_beside_every_capped_figure() -> None:
    """In what is said of replays, joules, reports and diffs, in heatmaps and in the JSON of a run."""
    runs = [run(300), run(500), run()]
    words = "clock curve assumed (made-up): joules ±20 % at 300 W, ±6.7 % at 500 W"
    said = [between_runs(runs), error_notes(runs), run_notes(runs), compare(pair([runs[0]], [runs[2]])).notes]
    for notes in said:
        assert sum(words.split(",")[0] in note for note in notes) == 1
    assert summary(runs[0])["clock_curve"]["joules_width"] == pytest.approx(0.2)
    assert summary(runs[2])["clock_curve"] is None
    batches = [replace(r, configuration=replace(r.configuration, max_num_seqs=n)) for r in runs for n in (1, 64)]
    (workload,) = gather(batches, {})
    for picture in heatmaps(workload):
        assert "±20 %" in picture.svg and "±6.7 %" in picture.svg
        assert "clock curve assumed" in picture.note


def test_the_ends_of_a_matrix_of_caps_are_told_apart_by_their_own_widths() -> None:
    """Another configuration's cap, of which less is known, does not keep them from being told apart."""

    def drawn(made: Run, times: float) -> Run:
        return replace(made, energy=replace(made.energy, gpu_j=times * (made.energy.gpu_j or 0.0)))

    runs = [drawn(run(500), 1.0), drawn(run(300), 1.05), drawn(run(), 1.15)]
    end = extremes(spent(runs), runs)
    assert end.error == pytest.approx(0.2 / 3 + 0.05, rel=0.01) and (end.least, end.most) == ("500 W cap", "no cap")
    assert any("±20 % at 300 W" in note for note in end.notes)


def test_a_difference_in_caps_allows_for_the_width_and_the_models_error() -> None:
    found = model_error([run(300), run()])
    assert found.of("workload", "GPU energy") == pytest.approx(0.2 + 0.05)
    assert found.of("workload", "makespan") is None


def test_a_cap_that_another_card_would_meet_may_bind() -> None:
    """Where nothing was bound, but steps come as near to the cap as cards differ."""
    near, far = (run(500, bound=0.0, near_cap=share) for share in (0.9, 0.0))
    assert (may_bind(near), may_bind(far), may_bind(run(500, near_cap=0.9))) == (True, False, False)
    (note,) = curve_notes([near])
    assert "whether a cap of 500 W binds is the card's: steps draw within 16 % of it" in note
    assert not list(curve_notes([far]))
    for made, word in ((near, "cap may bind"), (far, "cap not bound")):
        (workload,) = gather([made], {})
        assert cap_mark(workload.cells[0]) == word
