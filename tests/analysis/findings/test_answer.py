"""Each kind of test on runs of which it is known what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.analysis.findings.made import LOUD, along, asked, folder, made, trials

from rejoule.analysis.findings.answer import as_json, notes, shown
from rejoule.analysis.findings.finding import shipped
from rejoule.traces.run import Conditions

BATCH = {"test": "ends", "knob": "max_num_seqs", "from": "least", "to": "most"}


@pytest.mark.parametrize(
    ("expect", "to", "verdict"),
    [
        ("less", 500.0, "holds"),
        ("less", 1500.0, "does not hold"),
        ("less", 1000.0, "does not hold"),
        ("less", 990.0, "does not hold"),
        ("more", 1500.0, "holds"),
        ("more", 500.0, "does not hold"),
        ("same", 1001.0, "holds"),
        ("same", 900.0, "does not hold"),
    ],
)
def test_ends_that_differ_or_do_not(expect: str, to: float, verdict: str) -> None:
    """From one end of a knob to the other, a metric becomes less, more, or stays within the margin."""
    assert asked(along("max_num_seqs", {1: 1000.0, 8: to}), **BATCH, expect=expect).verdict == verdict


@pytest.mark.parametrize("expect", ["less", "more", "same"])
def test_noise_leaves_it_open(expect: str) -> None:
    """Trials that spread more than the change decide nothing, and neither does a single trial."""
    loud = [run for batch, noise in ((1, LOUD), (8, LOUD[::-1])) for run in trials(1000.0, noise, max_num_seqs=batch)]
    assert asked(loud, **BATCH, expect=expect).verdict == "cannot tell"
    alone = [made(1000.0, max_num_seqs=1), made(500.0, max_num_seqs=8)]
    found = asked(alone, **BATCH, expect=expect)
    assert (found.verdict, found.reason) == ("cannot tell", "one trial shows no spread")


def test_more_than_was_claimed_is_not_what_was_claimed() -> None:
    """A change beyond ``by_most`` does not hold."""
    runs = along("max_num_seqs", {1: 1000.0, 8: 400.0})
    assert asked(runs, **BATCH, by_most=0.7).verdict == "holds"
    assert asked(runs, **BATCH, by_most=0.3).verdict == "does not hold"


def test_the_error_of_a_model_leaves_it_open_and_an_unknown_one_is_said() -> None:
    """A change within the model's known error decides nothing; where no error is known the verdict says whose it is."""
    runs = along("max_num_seqs", {1: 1000.0, 8: 950.0}, measured=False)
    found = asked(runs, **BATCH)
    assert (found.verdict, shown(found), found.readings[0].error_known) == ("holds", "holds in the model", False)
    assert any("not known" in note for note in notes([folder(runs)], [found]))
    error = {"knobs": ["max_num_seqs"], "differences": 9, "metrics": {"GPU energy": {"median": 0.02, "p95": 0.07}}}
    told = [replace(run, engine={**run.engine, "profile": "p", "expected_error": error}) for run in runs]
    assert asked(told, **BATCH).verdict == "cannot tell"
    far = [run for run in told if run.configuration.max_num_seqs == 1]
    far += [replace(run, energy=replace(run.energy, gpu_j=500.0)) for run in told if run not in far]
    found = asked(far, **BATCH)
    assert (found.verdict, shown(found), notes([folder(far)], [found])) == ("holds", "holds", ())


def test_equal_to_the_last_digit_is_equal_whatever_the_model() -> None:
    """A chain that gains exactly nothing is the same, the model's error notwithstanding."""
    runs = along("max_num_seqs", {1: 1000.0, 8: 1000.0}, measured=False)
    error = {"knobs": ["max_num_seqs"], "differences": 9, "metrics": {"GPU energy": {"median": 0.02, "p95": 0.07}}}
    told = [replace(run, engine={**run.engine, "profile": "p", "expected_error": error}) for run in runs]
    assert asked(told, **BATCH, expect="same").verdict == "holds"


def test_a_design_that_does_not_allow_it() -> None:
    """Without a second value, without an end, or with two knobs moved at once, nothing is compared."""
    assert "only one value" in asked(along("max_num_seqs", {1: 1000.0}), **BATCH).reason
    middle = along("max_num_seqs", {2: 1000.0, 8: 500.0})
    assert "not run at both ends" in asked(middle, **BATCH | {"from": 1}).reason
    both = trials(1000.0, max_num_seqs=1, power_cap_w=300.0) + trials(500.0, max_num_seqs=8, power_cap_w=400.0)
    assert "differ in batch size alone" in asked(both, **BATCH).reason
    assert (
        asked(middle, **BATCH, where={"graph": ["other"]}).reason
        == "no runs of such workloads: it takes the graph other"
    )


def test_unequal_work_and_rejected_joules_are_not_compared() -> None:
    """Certificates that disagree, and joules that should not be used, leave it open and say so."""
    other = trials(1000.0, max_num_seqs=1) + trials(500.0, max_num_seqs=8, digest="other")
    assert "different work" in asked(other, **BATCH).reason
    assert asked(other, **BATCH, work="any").verdict == "holds"
    hot = [replace(run, conditions=Conditions(rejected=("too hot",))) for run in trials(500.0, max_num_seqs=8)]
    assert "too hot" in asked(trials(1000.0, max_num_seqs=1) + hot, **BATCH).reason


def test_a_claim_of_several_places_holds_in_all_or_not_at_all() -> None:
    """One place that says no is enough; each place's own verdict is told, too."""
    runs = along("max_num_seqs", {1: 1000.0, 8: 500.0}, trace="a") + along(
        "max_num_seqs", {1: 1000.0, 8: 1000.0}, trace="b"
    )
    found = asked(runs, **BATCH)
    assert (found.verdict, found.by_workload) == ("does not hold", {"a": "holds", "b": "does not hold"})
    assert found.reason == "holds in 1 of 2 comparisons"


CAP = {"test": "ends", "knob": "power_cap_w", "from": "most", "to": "any"}


def test_caps_are_asked_where_they_bind() -> None:
    """A cap that never bound says nothing of caps that do, and the reason names it."""
    free = trials(1000.0, power_cap_w=700.0, bound=0.0) + trials(1000.0, power_cap_w=500.0, bound=0.0)
    found = asked(free, **CAP, where={"bound_least": 0.1})
    assert (found.verdict, found.reason) == ("cannot tell", "caps of 500 W never bound")
    assert asked(free, **CAP, expect="same", where={"bound_most": 0.0}).verdict == "holds"
    found = asked([*free, *trials(900.0, power_cap_w=300.0, bound=0.8)], **CAP, where={"bound_least": 0.1})
    assert (found.verdict, len(found.readings)) == ("holds", 1)


TIGHT = {
    "test": "interaction",
    "knob": "policy",
    "from": "none",
    "to": "las",
    "where": {"knobs": {"power_cap_w": "least"}},
    "than": {"knobs": {"power_cap_w": "most"}},
}


def policies(tight: float, loose: float) -> list[Any]:
    return [
        run
        for cap, joules in ((200.0, tight), (400.0, loose))
        for policy, each in ((None, 1000.0), ("las", joules))
        for run in trials(each, policy=policy, power_cap_w=cap)
    ]


@pytest.mark.parametrize(
    ("tight", "loose", "verdict"),
    [(700.0, 900.0, "holds"), (900.0, 700.0, "does not hold"), (800.0, 800.0, "does not hold")],
)
def test_a_knob_that_does_more_where_another_one_is_small(tight: float, loose: float, verdict: str) -> None:
    """A policy may save more under the tighter cap, less, or as much."""
    found = asked(policies(tight, loose), **TIGHT)
    assert (found.verdict, len(found.readings)) == (verdict, 1)


def test_an_interaction_takes_both_sides() -> None:
    """With one cap alone nothing is more or less; nor does a third knob that differs count."""
    one = [run for run in policies(700.0, 900.0) if run.configuration.power_cap_w == 200.0]
    assert asked(one, **TIGHT).verdict == "cannot tell"
    moved = [
        replace(run, configuration=replace(run.configuration, max_num_seqs=4 if i % 2 else 8))
        for i, run in enumerate(policies(700.0, 900.0))
        if run.trial == 0
    ]
    assert asked(moved, **TIGHT).verdict == "cannot tell"


def test_workloads_are_not_mixed_up() -> None:
    """Where knobs are compared, it is within one workload of one folder."""
    beside = [replace(run, trace="beside") for run in policies(900.0, 700.0)]
    found = asked(policies(700.0, 900.0) + beside, **TIGHT)
    assert found.by_workload == {"agentic": "holds", "beside": "does not hold"} and len(found.readings) == 2
    halves = [folder(policies(700.0, 900.0)[:10], "tight"), folder(policies(700.0, 900.0)[10:], "loose")]
    assert asked(halves, **TIGHT).verdict == "cannot tell"


def test_workloads_against_each_other() -> None:
    """What a batch saves in one workload is held against what it saves in another; ``also`` asks for some there."""
    shared = along("max_num_seqs", {1: 1000.0, 8: 300.0}, graph="interactive")
    apart = along("max_num_seqs", {1: 1000.0, 8: 600.0}, graph="agentic")
    question = {**BATCH, "test": "interaction", "where": {"graph": ["interactive"]}, "than": {"graph": ["agentic"]}}
    assert asked(shared + apart, **question).verdict == "holds"
    assert asked(shared + apart, **question, also=True).verdict == "holds"
    nothing = along("max_num_seqs", {1: 1000.0, 8: 1000.0}, graph="agentic")
    assert asked(shared + nothing, **question).verdict == "holds"
    assert asked(shared + nothing, **question, also=True).verdict == "does not hold"


LEVER = {"test": "strongest", "knob": "max_num_seqs"}


def levers(batch: float, cap: float, **kind: Any) -> list[Any]:
    return [
        *along("max_num_seqs", {1: 1000.0, 8: batch}, power_cap_w=400.0, **kind),
        *trials(cap, max_num_seqs=1, power_cap_w=200.0, **kind),
    ]


@pytest.mark.parametrize(
    ("batch", "cap", "verdict"),
    [(400.0, 900.0, "holds"), (900.0, 400.0, "does not hold"), (700.0, 701.0, "cannot tell")],
)
def test_the_strongest_lever(batch: float, cap: float, verdict: str) -> None:
    """A knob saves more than each other one, less than one of them, or about as much."""
    assert asked(levers(batch, cap), **LEVER).verdict == verdict


def test_a_lever_alone_is_not_the_strongest() -> None:
    """With one knob there is nothing to rank, and lengths are no lever on the same work."""
    alone = along("max_num_seqs", {1: 1000.0, 8: 500.0})
    assert "no knob besides batch size" in asked(alone, **LEVER).reason
    longer = trials(4000.0, max_num_seqs=1, output_scale=4.0)
    assert "no knob besides batch size" in asked(alone + longer, **LEVER).reason
    other = folder(along("power_cap_w", {200.0: 900.0, 400.0: 1000.0}), "caps")
    assert asked([folder(alone, "batches"), other], **LEVER).verdict == "holds"


LINE = {"test": "linear", "knob": "output_scale", "work": "any"}


@pytest.mark.parametrize(
    ("points", "verdict"),
    [
        ({1.0: 110.0, 2.0: 210.0, 4.0: 410.0}, "holds"),
        ({1.0: 100.0, 2.0: 400.0, 4.0: 1600.0}, "does not hold"),
        ({1.0: 400.0, 2.0: 200.0, 4.0: 100.0}, "does not hold"),
        ({1.0: 100.0, 2.0: 200.0}, "cannot tell"),
    ],
)
def test_a_line(points: dict[float, float], verdict: str) -> None:
    """Joules that grow with a constant and a slope are a line, squares are none, and two points say nothing."""
    found = asked(along("output_scale", points), **LINE)
    assert found.verdict == verdict
    if len(points) == 2:
        assert "a line takes 3" in found.reason


def test_a_line_within_the_noise() -> None:
    """Points that are known to less than the tolerance decide nothing."""
    points = ((1.0, 110.0), (2.0, 210.0), (4.0, 410.0))
    loud = [run for scale, joules in points for run in trials(joules, LOUD, output_scale=scale)]
    assert asked(loud, **LINE).verdict == "cannot tell"


CLIFF = {"test": "cliff", "knob": "users", "metric": "cached share of prompts", "by_least": 0.2}


def users(shares: dict[int, int], wide: bool = False) -> list[Any]:
    """Cached tokens of prompts of 100, by users; 1600 tokens fit, and a workflow holds 111."""
    return [
        run
        for count, cached in shares.items()
        for run in trials(1000.0, arrivals=f"users:{count}", workflows=count, cached=cached, wide=wide)
    ]


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ({4: 50, 8: 50, 40: 20}, "holds"),
        ({4: 50, 8: 50, 40: 49}, "does not hold"),
        ({4: 50, 8: 20, 40: 20}, "does not hold"),
        ({4: 50, 6: 50, 8: 50}, "cannot tell"),
        ({4: 50, 40: 20}, "cannot tell"),
    ],
)
def test_a_cliff_where_the_cache_is_full(shares: dict[int, int], verdict: str) -> None:
    """It falls where the cache is full, not at all, or before; or the cache never fills, or there are two points."""
    assert asked(users(shares), **CLIFF).verdict == verdict


def test_a_fall_before_the_cache_of_a_fan_out_is_full() -> None:
    """Branches beside each other may have filled it sooner than is seen, so an early fall decides nothing."""
    found = asked(users({4: 50, 8: 20, 40: 20}, wide=True), **CLIFF)
    assert found.verdict == "cannot tell" and "branches" in found.reason
    assert asked(users({4: 50, 8: 50, 40: 20}, wide=True), **CLIFF).verdict == "holds"


def test_a_cache_of_unknown_size() -> None:
    """Where the engine does not say how much fits, nobody knows whether it was full."""
    runs = [replace(run, engine={"gpus": 1}) for run in users({4: 50, 8: 50, 40: 20})]
    assert "not known" in asked(runs, **CLIFF).reason


BEST = {
    "test": "optimum",
    "knob": "max_num_seqs",
    "metric": "makespan",
    "expect": "less",
    "by_least": 0.05,
}


def timed(points: dict[int, float], **kind: Any) -> list[Any]:
    return [run for batch, s in points.items() for run in trials(1000.0, max_num_seqs=batch, seconds=s, **kind)]


@pytest.mark.parametrize(
    ("points", "sessions", "verdict"),
    [
        ({1: 40.0, 2: 20.0, 4: 10.0, 8: 10.0, 16: 10.0}, (0.5, 1.5), "holds"),
        ({1: 40.0, 2: 20.0, 4: 10.0, 8: 10.0, 16: 10.0}, (2.0, 4.0), "does not hold"),
        ({1: 40.0, 2: 20.0, 4: 10.0, 8: 5.0, 16: 5.0, 32: 5.0}, (2.0, 4.0), "holds"),
        ({1: 40.0, 2: 20.0, 4: 10.0}, (2.0, 4.0), "cannot tell"),
    ],
)
def test_where_the_best_batch_lies(points: dict[int, float], sessions: tuple[float, float], verdict: str) -> None:
    """The least batch that is as good as the best, in multiples of four sessions; the largest one run may not be it."""
    found = asked(timed(points, arrivals="users:4", wide=True), **BEST, sessions=sessions)
    assert found.verdict == verdict


def test_two_views_of_the_best_batch() -> None:
    """One metric finds another value best than the other one does, the same, or it is not known which."""
    question = {
        "test": "disagreement",
        "knob": "max_num_seqs",
        "metric": "tokens a second a user",
        "expect": "more",
        "other_metric": "makespan",
        "other_expect": "less",
    }

    def views(slow: float, fast: float) -> list[Any]:
        return [
            run
            for batch, seconds, token_s in ((1, 40.0, fast), (8, 10.0, slow))
            for run in trials(1000.0, max_num_seqs=batch, seconds=seconds, token_s=token_s)
        ]

    assert asked(views(0.02, 0.01), **question).verdict == "holds"
    assert asked(views(0.01, 0.02), **question).verdict == "does not hold"
    alone = [run for run in views(0.02, 0.01) if run.trial == 0]
    assert asked(alone, **question).verdict == "cannot tell"


def test_every_shipped_finding_can_be_asked_of_anything() -> None:
    """Findings that come with ReJoule give an answer with a reason, whatever was run."""
    from rejoule.analysis.findings.answer import answers

    found = answers([folder(along("max_num_seqs", {1: 1000.0, 8: 500.0}))], shipped())
    assert len(found) == len(shipped()) and all(answer.reason for answer in found)
    body = as_json(found, [])
    assert [each["id"] for each in body["findings"]] == [each.id for each in shipped()]
