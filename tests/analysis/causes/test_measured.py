"""Causes of measured differences, told by fitted costs of an engine whose costs have another form."""

from __future__ import annotations

import pytest
from benchmarks.causes.measured import PLANTS, measured


@pytest.mark.parametrize("kind", PLANTS)
def test_what_was_planted_is_told_with_an_interval_that_holds(kind: str) -> None:
    found = measured(kind, 11 + list(PLANTS).index(kind))
    assert found.telling and found.named and found.basis == "fitted costs"
    assert sum(told.holds for told in found.told) >= len(found.told) - 1
