"""Causes of measured differences, told by fitted costs of an engine whose costs have another form."""

from __future__ import annotations

from dataclasses import replace
from math import fsum

import pytest
from benchmarks.causes.measured import PLANTS, measured
from benchmarks.judge.loads import CHAT, SUMMARY, TOGETHER, Load, alone
from benchmarks.judge.made import recorded, served

from rejoule.analysis.causes import causes
from rejoule.analysis.diff import compare
from rejoule.analysis.pairing import Pair, pair


@pytest.mark.parametrize("kind", PLANTS)
def test_what_was_planted_is_told_with_an_interval_that_holds(kind: str) -> None:
    found = measured(kind, 11 + list(PLANTS).index(kind))
    assert found.telling and found.named and found.basis == "fitted costs"
    assert sum(told.holds for told in found.told) >= len(found.told) - 1


def test_by_node_nine_of_ten_intervals_hold_whatever_was_planted() -> None:
    told = [one for number, kind in enumerate(PLANTS) for one in measured(kind, 21 + number).by_node]
    clear = [one for one in told if abs(one.said) > one.half_width]
    assert sum(one.holds for one in told) >= 0.9 * len(told)
    # Intervals that hold everything would say nothing.
    assert len(clear) >= 0.3 * len(told) > 10


def test_nodes_that_always_ran_together_have_no_interval_and_say_so() -> None:
    load = Load("together", TOGETHER, 0.6)
    sides = [recorded(each, served(each, seed, 0), seed, 0) for seed, each in enumerate((load, load))]
    found = causes([Pair(sides[0], sides[1])])
    assert found is not None and found.basis == "fitted costs"
    assert set(found.unsure["node"]) == {"short", "long"} and "beside long" in found.unsure["node"]["short"]
    for cause in found.causes:
        assert all((half is None) == (line in found.unsure["node"]) for line, half in cause.node_half_width_j.items())


@pytest.mark.parametrize("basis", ["fitted costs", "step times"])
@pytest.mark.parametrize("cap_w", [None, 400.0], ids=["one fit", "a fit to each"])
def test_causes_of_a_node_add_up_to_its_difference_or_it_is_said_why_not(cap_w: float | None, basis: str) -> None:
    """Where clocks are alike one fit to both sides tells causes, and joules by node have a fit to each."""
    loads = Load("a", alone(CHAT, SUMMARY), 2.0), Load("b", alone(CHAT, SUMMARY), 1.0)
    a, b = (replace(recorded(load, served(load, 3, 0), 3, 0), trace="made") for load in loads)
    b = replace(b, configuration=replace(b.configuration, power_cap_w=cap_w))
    if basis == "step times":
        a, b = (replace(run, readings=None) for run in (a, b))
    found = compare(pair([a], [b], allow_different_work=True))
    (why,) = found.causes
    assert why.basis == basis and bool(why.notes) is (cap_w is None)
    sums = {row.name: fsum(cause.by_node.get(row.name, 0.0) for cause in why.causes) for row in found.of("node")}
    off = max(abs(sums[row.name] - row.delta) for row in found.of("node") if row.name in ("chat", "summary"))
    assert (off > 1e-6) is (cap_w is None)
