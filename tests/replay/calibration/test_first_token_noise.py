"""What is told of the scatter of first tokens is what was put in."""

from __future__ import annotations

import pytest
from benchmarks.first_token_noise import Scatter, Trials, scatter, worst_of_twelve
from benchmarks.pieces import Pieces

STILL = Scatter([0.0], [0.0], [0.0])


def cell(*waits_s: float) -> Trials:
    return Trials("server", 8, tuple(Pieces(s, 0.0, 0.0) for s in waits_s))


def test_trials_that_are_alike_leave_the_worst_cell_where_the_model_has_it() -> None:
    """No chance of a miss, and no miss."""
    assert worst_of_twelve(STILL, STILL, 1, "any") == (0.0, 0.0)


def test_a_chance_of_one_in_four_in_each_of_eight_cells_is_that_of_the_worst() -> None:
    """One less three quarters to the eighth."""
    chance, _ = worst_of_twelve(STILL, Scatter([0.0, 0.0, 0.0, 0.5], [0.0], [0.0]), 1, "any")
    assert chance == pytest.approx(1 - 0.75**8, abs=0.02)


def test_a_slow_first_trial_weighs_less_among_more_and_nothing_where_it_is_left_out() -> None:
    """First tokens that come half as late again."""
    slow = Scatter([0.0], [0.5], [0.0])
    worst = [worst_of_twelve(STILL, slow, trials, "first")[1] for trials in (1, 2, 5)]
    assert worst == pytest.approx([1 - 1 / 1.5, 1 - 1 / 1.25, 1 - 1 / 1.1])
    assert worst_of_twelve(STILL, slow, 5, "later") == (0.0, 0.0)


def test_trials_lie_further_from_the_true_mean_than_from_their_own() -> None:
    """By the root of 3/2 for three and of 2 for two; a cell of two trials has no place."""
    found = scatter([cell(1.2, 0.9, 0.9), cell(1.0, 9.0)])
    assert found.any == pytest.approx([0.2 * 1.5**0.5, -0.1 * 1.5**0.5, -0.1 * 1.5**0.5])
    assert found.first == pytest.approx([1.2 / 0.9 - 1])
    assert found.later == pytest.approx([0.0, 0.0])
