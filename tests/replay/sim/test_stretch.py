"""Many equal steps at once."""

from __future__ import annotations

import pytest

from rejoule.replay.sim.power import Operation
from rejoule.replay.sim.stretch import interpolated

FIRST, LAST = Operation(1980.0, 0.010, 500.0, False, True), Operation(1900.0, 0.014, 600.0, True, False)
STRETCH = interpolated(1, 2.0, 0, 5, FIRST, LAST)


def test_a_stretch_costs_what_its_steps_cost() -> None:
    """Times and joules grow in a line from the first step's to the last one's."""
    lengths_s, joules = [0.010, 0.011, 0.012, 0.013, 0.014], [5.0, 5.85, 6.7, 7.55, 8.4]
    for steps in range(6):
        assert STRETCH.end_s(steps) - 2.0 == pytest.approx(sum(lengths_s[:steps]))
        assert STRETCH.energy_j(steps) == pytest.approx(sum(joules[:steps]))
    record = STRETCH.record(2.010, 1, 4, 100.0)
    assert record.end_s == pytest.approx(2.046)
    assert record.energy_j == pytest.approx(5.85 + 6.7 + 7.55 - 100.0 * 0.036)
    assert [record.token_time_s(i) for i in range(3)] == pytest.approx([2.021, 2.033, 2.046])


def test_a_stretch_is_as_doubtful_as_its_worst_step() -> None:
    """It is bound by the cap where one step is, and above it where one is."""
    assert STRETCH.cap_bound and not STRETCH.attainable


@pytest.mark.parametrize(("at_s", "steps"), [(2.0, 0), (2.010, 1), (2.0101, 2), (2.021, 2), (2.060, 5)])
def test_the_steps_until_a_time_are_the_fewest(at_s: float, steps: int) -> None:
    assert STRETCH.steps_until(at_s - 1e-9) == steps
