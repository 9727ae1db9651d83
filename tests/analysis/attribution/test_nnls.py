from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.analysis.attribution.nnls import _best_support, nnls

NUMBERS = st.floats(-10.0, 10.0).map(lambda v: round(v, 3))
SYSTEMS = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=n, max_size=n),
        st.lists(NUMBERS, min_size=n, max_size=n),
    )
)


@settings(deadline=None)
@given(SYSTEMS, st.lists(st.tuples(*[st.floats(0.0, 5.0)] * 3), min_size=20, max_size=20))
def test_no_other_point_is_better(
    system: tuple[list[tuple[float, float, float]], list[float]], others: list[tuple[float, float, float]]
) -> None:
    """No point that is not negative comes closer, near the solution or far from it."""
    columns, target = np.array(system[0]), np.array(system[1])
    found = nnls(columns, target)
    assert (found >= 0.0).all()
    least = np.linalg.norm(columns @ found - target)
    for other in others:
        for candidate in (np.array(other), found + 1e-3 * (np.array(other) - found)):
            assert least <= np.linalg.norm(columns @ candidate - target) + 1e-9


@settings(deadline=None)
@given(st.tuples(*[st.floats(0.01, 100.0)] * 3), st.integers(0, 1000))
def test_recovers_an_exact_solution(truth: tuple[float, float, float], seed: int) -> None:
    """Where some non-negative solution fits exactly, it is found."""
    columns = np.random.default_rng(seed).uniform(0.0, 1.0, (20, 3)) * (1.0, 64.0, 4000.0)
    np.testing.assert_allclose(nnls(columns, columns @ np.array(truth)), truth, rtol=1e-6)


def test_empty_and_constant_systems() -> None:
    """Nothing to fit gives zeros; equal columns give the first its due."""
    assert nnls(np.zeros((0, 3)), np.zeros(0)).tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(nnls(np.ones((4, 3)), np.full(4, 2.0)), [2.0, 0.0, 0.0])


@pytest.mark.parametrize("seed", range(40))
def test_active_sets_find_what_trying_every_support_finds(seed: int) -> None:
    """Where columns are told apart, however much alike and of whatever units, with some coefficients at nothing."""
    draw = np.random.default_rng(seed)
    columns = draw.uniform(0.0, 1.0, (30, 6)) + draw.uniform(0.0, 9.0)
    target = columns @ np.clip(draw.normal(size=6), 0.0, None) + draw.normal(size=30)
    units = 10.0 ** draw.uniform(-6.0, 6.0, 6)
    every = _best_support(columns, target, float(np.linalg.norm(target)))
    np.testing.assert_allclose(nnls(columns * units, target) * units, every, rtol=1e-6, atol=1e-9)
