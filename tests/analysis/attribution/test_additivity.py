from __future__ import annotations

import pytest
from benchmarks.gpu.additivity import additivity, by_class, lines
from benchmarks.made_runs import Kind, made_run

from rejoule.traces.errors import RejouleError

PREFILL, DECODE = Kind("prefill", 2000, 4), Kind("decode", 64, 300)


def test_costs_found_alone_hold_in_the_mix() -> None:
    """What the classes cost alone predicts them in the mix within 10 %, where the usual methods are far off."""
    alone = [made_run([kind], 5.0, 80, seed=seed)[0] for seed, kind in enumerate((PREFILL, DECODE))]
    mix, truth = made_run([PREFILL, DECODE], 6.0, 150, seed=3)
    (found,) = additivity([*alone, mix])
    true = by_class(mix, truth)
    assert abs(found.worst) < 0.1 and found.modelled_total == pytest.approx(1.0, abs=0.05)
    for name, energy in found.mixed.by_node().items():
        assert energy.total_j == pytest.approx(true[name], rel=0.05)
        assert all(abs(joules[name] / true[name] - 1.0) > 0.1 for joules in found.naive_j.values())
    assert any("within ±10%" in line for line in lines([found]))


def test_a_class_has_to_be_there_alone() -> None:
    """A mix without runs of each class alone is refused."""
    mix, _ = made_run([PREFILL, DECODE], 6.0, 20)
    with pytest.raises(RejouleError, match="none of decode, prefill alone"):
        additivity([mix])
