"""Intervals hold where they are stated, and are not stated where they cannot."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import factorial

import numpy as np
import pytest
from benchmarks.judge.loads import LOADS
from benchmarks.judge.scores import marks
from tests.analysis.attribution.judged import found, judged
from tests.analysis.builders import with_agents

from rejoule.analysis.attribution import attribute, attribute_alike, contrast, fit
from rejoule.analysis.attribution.experts import woken
from rejoule.analysis.attribution.quantile import t95
from rejoule.analysis.attribution.tied import tied
from rejoule.analysis.diff import compare
from rejoule.analysis.energy import spent
from rejoule.analysis.pairing import Pair
from rejoule.analysis.summary.lines import NO_AGENT

SOUND = [load.name for load in LOADS if not load.company.any and load.name != "two nodes together"]


@pytest.mark.parametrize("load", SOUND)
def test_lines_hold(load: str) -> None:
    """On engines of other forms than the tool's, stated intervals of every kind hold in nearly all cases."""
    held: dict[str, list[bool]] = {}
    for seed in range(4):
        for mark in marks(judged(load, seed))[1]:
            if mark.half is not None:
                held.setdefault(mark.kind, []).append(abs(mark.error) <= mark.half)
    for kind, found_in in held.items():
        assert sum(found_in) >= 0.75 * len(found_in), kind


def test_idle_holds_where_power_steps_within_bins() -> None:
    """A sensor that misses three quarters of the time errs most where work begins and ends, beside idle time."""
    held = [
        abs(mark.error) <= mark.half
        for seed in (6, 9, 11, 26, 52)
        for mark in marks(judged("part-time sensor", seed))[1]
        if mark.kind == "idle" and mark.half is not None
    ]
    assert len(held) == 5 and sum(held) >= 4


def test_trials_attributed_together_are_attributed_as_by_their_common_fit() -> None:
    """Laying each run out once changes nothing."""
    runs = [judged("mix, 6 s", seed).run for seed in range(2)]
    assert attribute_alike(runs) == tuple(attribute(run, fit(runs)) for run in runs)


def test_an_agent_is_as_sure_as_a_node_of_its_calls() -> None:
    """Where agents are nodes by other names, their joules and intervals are the same, and no sum of others'."""
    run = judged("mix").run
    nodes = found(run).by_node()
    agents = found(with_agents(run, {name: f"agent of {name}" for name in nodes})).by_agent()
    assert {f"agent of {name}": energy for name, energy in nodes.items()} == agents


def test_agents_have_a_table_of_their_own() -> None:
    """Beside nodes where there are several; calls of none are a line; all add up to what nodes do."""
    run = judged("mix").run
    first = run.calls[0].node
    (plain,) = spent([run])
    assert plain.agents == ()
    (told,) = spent([with_agents(run, {first: "lead"})])
    assert [part.name for part in told.agents] == ["lead", NO_AGENT]
    (by_agent,) = spent([with_agents(run, {first: "lead"})], "agent")
    assert by_agent.parts[:2] == told.agents
    assert sum(part.energy_j for part in by_agent.parts) == pytest.approx(run.energy.gpu_j)


def test_without_steps_or_readings_there_is_no_interval() -> None:
    """Trials agree on what all of them miss, so their spread is no ±; the note says how far off nodes may be."""
    trials = [replace(judged("mix", seed).run, steps=None, readings=None, trial=seed) for seed in (0, 1)]
    (shown,) = spent(trials)
    assert all(part.uncertainty_j is None for part in shown.parts)
    assert any("nodes were off by -57% to +60%" in note for note in shown.notes)


def test_without_steps_or_readings_there_is_no_verdict_by_node() -> None:
    """A node that is called less or more there may only be shared otherwise."""
    runs = [replace(judged("mix", seed).run, steps=None, readings=None, trial=seed % 2) for seed in range(4)]
    for row in compare([Pair(a, b) for a, b in zip(runs[:2], runs[2:], strict=True)]).of("node"):
        assert row.verdict in ("cannot tell", "no difference") and (row.withheld or row.a == row.b)


def test_nodes_that_always_work_side_by_side_are_named_with_their_sum() -> None:
    """Their parts have no interval, their sum has a narrow one that holds."""
    one = judged("two nodes together")
    whole, true = found(one.run), one.lines()
    assert whole.uncertainty.tied == {"long", "short"}
    assert all(energy.uncertainty_j is None for energy in whole.by_node().values())
    (both,) = whole.together().values()
    known = true["nodes", "long"] + true["nodes", "short"]
    assert abs(both.total_j - known) <= (both.uncertainty_j or 0.0) < 0.02 * known
    (shown,) = spent([one.run])
    assert [part.name for part in shown.together] == ["long + short"]
    assert any("always worked side by side" in note for note in shown.notes)


def test_equal_configurations_are_not_told_apart_by_node() -> None:
    """Where nodes always work together, a diff of equal sides gives no verdict on either, and one on their sum."""
    runs = [replace(judged("two nodes together", seed).run, trial=seed % 4) for seed in range(8)]
    rows = {row.name: row for row in compare([Pair(a, b) for a, b in zip(runs[:4], runs[4:], strict=True)]).of("node")}
    assert {"long", "short", "long + short"} <= set(rows)
    for name in ("long", "short"):
        assert rows[name].verdict == "cannot tell" and "always worked beside" in (rows[name].withheld or "")
    assert rows["long + short"].withheld is None and rows["long + short"].verdict in ("cannot tell", "no difference")


def test_agents_that_always_work_side_by_side_are_judged_as_their_sum() -> None:
    """As nodes are: none of them has a verdict, their sum has one that allows for its fits' error."""
    agents = {"long": "writer", "short": None}
    runs = [replace(with_agents(judged("two nodes together", seed).run, agents), trial=seed % 4) for seed in range(8)]
    (shown,) = spent(runs[:1])
    assert any(f"writer + {NO_AGENT} always worked side by side" in note for note in shown.notes)
    diff = compare([Pair(a, b) for a, b in zip(runs[:4], runs[4:], strict=True)])
    nodes, rows = ({row.name: row for row in diff.rows if row.scope == scope} for scope in ("node", "agent"))
    for name, other in (("writer", NO_AGENT), (NO_AGENT, "writer")):
        assert rows[name].verdict == "cannot tell" and f"worked beside {other}" in (rows[name].withheld or "")
    both = rows[f"writer + {NO_AGENT}"]
    assert (both.a, both.b) == pytest.approx((nodes["long + short"].a, nodes["long + short"].b))
    assert both.withheld is None and both.allowance == pytest.approx(nodes["long + short"].allowance)


def test_a_sum_allows_for_its_fits_whichever_of_its_parts_came_first() -> None:
    """Sides that name the parts in another order call the sum the same."""
    a, b = found(judged("two nodes together", 0).run), found(judged("two nodes together", 1).run)
    turned = {tuple(reversed(names)): half for names, half in b.uncertainty.together.items()}
    other = replace(b, uncertainty=replace(b.uncertainty, together=turned))
    known = contrast([a], [b]).errors["node", ("long", "short")]
    assert contrast([a], [other]).errors["node", ("long", "short")] == known


def test_errors_of_both_fits_are_in_a_contrast() -> None:
    """The error of a log ratio is that of both sides in quadrature, however many trials a side has."""
    a, b = found(judged("mix", 0).run), found(judged("mix", 1).run)
    one, many = contrast([a], [b]), contrast([a, a, a], [b, b, b])
    half = [side.by_node()["chat"] for side in (a, b)]
    expected = np.hypot(*[np.log1p((e.uncertainty_j or 0.0) / e.total_j) for e in half])
    assert one.errors["node", ("chat",)] == pytest.approx(expected) == many.errors["node", ("chat",)]


def test_a_node_lies_between_what_it_adds_and_what_it_costs_alone() -> None:
    """Savings without a node, its share and its cost alone are in that order, in dense models and with experts."""
    for load in ("mix", "experts, large batch", "agents with tools"):
        whole = found(judged(load).run)
        for name, energy in whole.by_node().items():
            bounds = whole.bounds[name]
            assert bounds.saved_j <= energy.total_j * (1.0 + 1e-9) and energy.total_j <= bounds.alone_j * (1.0 + 1e-9)


def test_bounds_are_printed_beside_a_node() -> None:
    """In tables and in JSON."""
    (shown,) = spent([judged("mix").run])
    for part in shown.parts:
        assert (part.saved_j is None) == (part.name == "idle") == (part.alone_j is None)


def test_experts_are_shared_as_their_shapley_value() -> None:
    """The quadrature agrees with all orders of four calls."""
    tokens, asleep = np.array([1.0, 1.0, 30.0, 7.0]), 0.9375
    exact = np.zeros(4)
    for i in range(4):
        others = [j for j in range(4) if j != i]
        for size in range(4):
            for chosen in combinations(others, size):
                weight = factorial(size) * factorial(3 - size) / factorial(4)
                before = tokens[list(chosen)].sum()
                exact[i] += weight * (asleep**before - asleep ** (before + tokens[i]))
    np.testing.assert_allclose(woken(tokens, np.zeros(4, dtype=np.intp), 1, asleep), exact, rtol=1e-9)
    assert exact.sum() == pytest.approx(1.0 - asleep ** tokens.sum())


def test_tied_names_are_those_whose_errors_cancel() -> None:
    """Two that make up for each other are tied; one that is unsure by itself is not."""
    loose = np.array([[4.0, -3.99, 0.0], [-3.99, 4.0, 0.0], [0.0, 0.0, 4.0]])
    assert tied("abc", np.array([10.0, 10.0, 10.0]), loose) == (("a", "b"),)
    assert tied("abc", np.array([1e3, 1e3, 10.0]), loose) == ()


@pytest.mark.parametrize(("degrees", "quantile"), [(2, 4.303), (4, 2.776), (10, 2.228), (30, 2.042)])
def test_the_quantile_is_that_of_student(degrees: int, quantile: float) -> None:
    """Within 1 %, from two degrees of freedom on."""
    assert t95(degrees) == pytest.approx(quantile, rel=0.02)


def test_trials_that_share_a_fit_keep_its_error() -> None:
    """The width of a node's mean over trials is not narrower than its attribution's."""
    runs = [replace(judged("mix", seed).run, trial=seed) for seed in range(3)]
    (shown,) = spent(runs)
    narrowest = min((attribute(run) or found(run)).by_node()["chat"].uncertainty_j or 0.0 for run in runs)
    (chat,) = (part for part in shown.parts if part.name == "chat")
    assert (chat.uncertainty_j or 0.0) > 0.3 * narrowest
