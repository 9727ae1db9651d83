"""Conditions on a diff: what fails is shown to be so, what passes is shown not to be, and the rest is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.analysis import builders
from tests.analysis.noisy import trials

from rejoule.analysis.comparison.row import Row, judged
from rejoule.analysis.diff import Diff, compare
from rejoule.analysis.gate import Judgement, conditions, judge
from rejoule.analysis.pairing import pair
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Energy

TRACE = builders.trace(3)


def of_figures(a: list[float], b: list[float], simulated: bool = False, allowance: float | None = None) -> Diff:
    """A diff whose joules are these."""
    row = Row("workload", "t", "GPU energy", "J", 0.0, 0.0, len(a), None, None, None, "cannot tell")
    return Diff("A", "B", "measured", (), (), (judged(row, a, b, allowance, simulated, False, None),))


def one(found: Diff, text: str) -> Judgement:
    (judgement,) = judge(found, conditions([text]))
    return judgement


@given(
    b=st.lists(st.floats(50.0, 200.0), min_size=2, max_size=5),
    bound=st.integers(-60, 150),
    simulated=st.booleans(),
)
def test_no_condition_both_fails_and_passes_its_opposite(b: list[float], bound: int, simulated: bool) -> None:
    """Whatever the trials, a change is never shown to be above and below one bound at once, nor neither if known."""
    found = of_figures([100.0] * len(b), b, simulated)
    above, below = one(found, f"joules > {bound}%"), one(found, f"joules < {bound}%")
    assert not above.outcome == below.outcome == "fails"
    if above.outcome == "fails":
        assert below.outcome == "passes"
    if "cannot tell" in (above.outcome, below.outcome):
        assert above.reason is not None or below.reason is not None


def test_a_simulated_change_without_a_known_error_says_so() -> None:
    """An outcome that rests on the model alone is told from one that its known error, or trials, support."""
    alone, known = (one(of_figures([100.0], [110.0], True, off), "joules > 3%") for off in (None, 0.02))
    assert alone.outcome == known.outcome == "fails"
    assert str(alone).endswith("; by the model alone, whose error is not known") and known.reason is None


@pytest.mark.parametrize(
    ("engine", "energy", "rests"),
    [
        ("http://server", Energy(), None),
        ("sim", Energy(gpu_j=1.0, source={"gpu": "model:p"}), "by the model alone, whose error is not known"),
        ("http://server", Energy(gpu_j=1.0, source={"gpu": "model:p"}), "by the model alone, whose error is not known"),
    ],
    ids=["a server without a meter", "simulated trials that differ", "a server of a simulated engine"],
)
def test_only_what_a_model_says_rests_on_the_model(engine: str, energy: Energy, rests: str | None) -> None:
    """Times of a server whose joules nobody measured are measured; what no example is known of allows for none."""
    random = np.random.default_rng(5)
    a, b = (
        [
            replace(run, energy=energy, makespan_s=times * run.makespan_s, engine={"profile": "p"}, steps=None,
                    configuration=replace(run.configuration, engine=engine))
            for run in trials(TRACE, 4, random)
        ]
        for times in (1.0, 1.3)
    )  # fmt: skip
    found = compare(pair(a, b))
    judged_ = one(found, "makespan > 5%")
    assert (judged_.outcome, judged_.interval is not None, judged_.reason) == ("fails", True, rests)
    assert {row.error_known for row in found.rows if row.unit == "s"} == {rests is None}


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("joules > 3%", "fails"),
        ("joules>9.9 %", "fails"),
        ("joules > 10.1%", "passes"),
        ("GPU energy > 5%", "fails"),
        ("joules > 9 J", "fails"),
        ("joules > 11 J", "passes"),
        ("joules > 0.009 kJ", "fails"),
        ("joules < 3%", "passes"),
        ("joules < 12%", "fails"),
        ("joules < -1%", "passes"),
    ],
)
def test_a_change_that_is_known_is_held_against_the_bound(text: str, outcome: str) -> None:
    """Simulated trials are equal: 100 J and 110 J."""
    assert one(of_figures([100.0, 100.0], [110.0, 110.0], simulated=True), text).outcome == outcome


def test_the_models_error_leaves_open_what_it_may_be_off_by() -> None:
    """A predicted +10 % that may be off by 6 % is above 3 %, and may be above 12 %."""
    found = of_figures([100.0], [110.0], simulated=True, allowance=0.06)
    told = {bound: one(found, f"joules > {bound}%").outcome for bound in (3, 8, 12, 20)}
    assert told == {3: "fails", 8: "cannot tell", 12: "cannot tell", 20: "passes"}


def test_measured_trials_must_show_it() -> None:
    """One trial shows nothing, and trials that scatter leave a bound within their interval open."""
    assert one(of_figures([100.0], [200.0]), "joules > 3%").reason == "one trial shows no spread"
    few = one(of_figures([100.0, 101.0, 99.0], [104.0, 103.0, 108.0]), "joules > 3%")
    assert few.outcome == "cannot tell" and few.interval is not None
    many = one(of_figures([100.0, 101.0, 99.0], [120.0, 121.0, 119.5]), "joules > 3%")
    assert many.outcome == "fails"


def test_equal_configurations_seldom_fail() -> None:
    """Of a hundred diffs of one configuration with itself, about two or three lie above 0 by chance, as 95 % says."""
    random = np.random.default_rng(5)
    found = 0
    for _ in range(100):
        a, b = trials(TRACE, 3, random), trials(TRACE, 3, random)
        found += any(j.outcome == "fails" for j in judge(compare(pair(a, b)), conditions(["joules > 0%"])))
    assert found <= 8


def test_nodes_have_conditions_too() -> None:
    """By their names in the table of joules by node."""
    runs = builders.grid({"agentic": TRACE}, [1, 8], [None])
    found = compare(pair(runs[:1], runs[1:]))
    names = [row.name for row in found.of("node")]
    outcomes = {name: one(found, f"node:{name} > 1%").outcome for name in names}
    changes = {row.name: row.change for row in found.of("node")}
    assert outcomes == {n: "fails" if (changes[n] or 0.0) > 0.01 else "passes" for n in names}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("joules", "is no condition"),
        ("joules > 3% more", "is no condition"),
        ("joules > many", "is no condition"),
        ("joules > 1.2.3%", "no number"),
        ("watts > 3%", "no figure is called 'watts'"),
        ("joules > 3 s", "has no unit 's'"),
        ("jain < 0.1 J", "has no unit 'J'"),
        ("node:nobody > 3%", "neither side has nobody"),
    ],
)
def test_what_is_no_condition_is_refused_with_a_remedy(text: str, told: str) -> None:
    with pytest.raises(RejouleError, match=told):
        judge(of_figures([1.0], [2.0]), conditions([text]))
