"""How a bin's joules are shared among those who took part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rejoule.analysis.attribution.bins import of_readings
from rejoule.analysis.attribution.bounds import bounds
from rejoule.analysis.attribution.costs import Costs
from rejoule.analysis.attribution.ledger import DECODE, IDLE, PREFILL, PROMPT_STEP, STEP, ledger
from rejoule.analysis.attribution.shares import share
from rejoule.analysis.attribution.slices import Slice, Work
from rejoule.traces.run import Reading

SLICES = [
    Slice(0.0, 0.4, 2, None, {"a": Work(30.0)}, {"b": Work(2.0)}),
    Slice(0.4, 0.8, 1, None, {"a": Work(4.0), "b": Work(6.0)}, {"a": Work(1.0)}),
    Slice(0.8, 1.0, 0, None),
    Slice(1.0, 2.0, 5, None, {}, {"a": Work(5.0), "b": Work(5.0)}),
]
BOOK = ledger(SLICES, ["a", "b"])
BINS = of_readings(BOOK, [Reading(0.0, 0.5, 90.0), Reading(0.5, 1.0, 60.0), Reading(1.0, 2.0, 110.0)])
COSTS = Costs(step_j=7.0, decode_token_j=2.0, prefill_token_j=1.0, prompt_step_j=3.0, idle_w=50.0)


def test_what_a_step_costs_is_shared_equally_and_a_prompts_launch_by_those_who_bring_one() -> None:
    """A call that ends its prompt and decodes in one step has half of its share in each phase."""
    owed = {(int(at), "ab"[call], bool(decode)): row for at, call, decode, row in
            zip(BOOK.at, BOOK.call, BOOK.decode, BOOK.owed, strict=True)}  # fmt: skip
    assert [owed[0, "a", False][k] for k in (STEP, PREFILL, PROMPT_STEP)] == [1.0, 30.0, 2.0]
    assert [owed[0, "b", True][k] for k in (STEP, DECODE, PROMPT_STEP)] == [1.0, 2.0, 0.0]
    assert [owed[1, name, late][STEP] for name, late in (("a", False), ("a", True), ("b", False))] == [0.25, 0.25, 0.5]
    assert [owed[1, name, False][PROMPT_STEP] for name in "ab"] == [0.5, 0.5]
    assert BOOK.features[:, IDLE].tolist() == pytest.approx([0.0, 0.0, 0.2, 0.0])


@pytest.mark.parametrize("costs", [COSTS, replace(COSTS, idle_w=0.0), Costs()], ids=["all", "no idle", "none"])
def test_all_joules_of_a_bin_are_given_to_what_lies_in_it(costs: Costs) -> None:
    """Whatever the costs say: where they say nothing, by time, and in a stretch equally."""
    shares = share(BOOK, BINS, costs)
    assert shares.stretches_j.sum() == pytest.approx(90.0 + 60.0 + 110.0)
    busy_j = np.bincount(BOOK.at, shares.entries_j, minlength=len(SLICES))
    assert busy_j[~BOOK.idle] == pytest.approx(shares.stretches_j[~BOOK.idle])
    assert shares.stretches_j[3] == pytest.approx(110.0)
    if costs == Costs():
        assert shares.stretches_j == pytest.approx([72.0, 18.0 + 36.0, 24.0, 110.0])
        assert shares.entries_j == pytest.approx([36.0, 36.0, 13.5, 27.0, 13.5, 55.0, 55.0])


def test_slopes_are_derivatives_by_the_costs() -> None:
    """Of every entry's joules and of the idle stretches', by each coefficient."""
    shares, theta, step = share(BOOK, BINS, COSTS), COSTS.vector, 1e-6
    for term, name in ((STEP, "step_j"), (DECODE, "decode_token_j"), (PREFILL, "prefill_token_j"), (IDLE, "idle_w")):
        up, down = (share(BOOK, BINS, replace(COSTS, **{name: theta[term] + d})) for d in (step, -step))
        assert shares.slopes[:, term] == pytest.approx((up.entries_j - down.entries_j) / (2 * step), abs=1e-6)
        by_stretch = (up.stretches_j - down.stretches_j) / (2 * step)
        assert shares.idle_slopes[BOOK.idle, term] == pytest.approx(by_stretch[BOOK.idle], abs=1e-6)


def test_a_call_alone_in_a_step_would_save_all_of_it_and_of_a_shared_one_what_is_its_own() -> None:
    """Its least is what the steps would take less without it, its most what they would take with it alone."""
    slices = [
        Slice(0.0, 1.0, 1, None, {"a": Work(10.0)}),
        Slice(1.0, 2.0, 1, None, {}, {"a": Work(1.0), "b": Work(1.0)}),
    ]
    book = ledger(slices, ["a", "b"])
    bins = of_readings(book, [Reading(0.0, 1.0, 40.0), Reading(1.0, 2.0, 11.0)])
    a, b = bounds(book.call, 2, book, share(book, bins, COSTS), COSTS)
    assert (a.saved_j, a.alone_j) == pytest.approx((40.0 + 2.0, 40.0 + 9.0))
    assert (b.saved_j, b.alone_j) == pytest.approx((2.0, 9.0))
