from __future__ import annotations

import pytest

from rejoule.analysis.statistics import mean


def test_mean_has_a_t_interval() -> None:
    """The interval is the mean ± t · s/√n; one value has none."""
    found = mean([1.0, 2.0, 3.0])
    assert found.value == pytest.approx(2.0)
    assert found.interval is not None
    assert found.interval.high - 2.0 == pytest.approx(4.30265 / 3**0.5, rel=1e-5)
    assert mean([5.0]).interval is None
