"""What configurations are called."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rejoule.analysis.summary.naming import describe
from rejoule.traces.run import Configuration


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.floats(1.0, 1e4), st.floats(1.0, 1e4))
def test_no_two_values_look_alike(seed: int, other_seed: int, cap_w: float, other_w: float) -> None:
    """However many digits tell them apart, as those of a date as a seed do."""
    a, b = Configuration(seed=seed, power_cap_w=cap_w), Configuration(seed=other_seed, power_cap_w=other_w)
    for name in ("seed", "power_cap_w"):
        assert (describe(a, [name]) == describe(b, [name])) == (getattr(a, name) == getattr(b, name))


def test_values_are_short() -> None:
    """Where nothing is lost by it."""
    found = Configuration(max_num_seqs=64, power_cap_w=300.0, output_scale=1.5, seed=20_261_129)
    said = describe(found, ["max_num_seqs", "power_cap_w", "output_scale", "seed"])
    assert said == "batch 64, 300 W cap, output ×1.5, seed=20261129"
