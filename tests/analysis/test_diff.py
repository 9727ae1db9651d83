from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.analysis import builders

from rejoule.analysis.diff import Diff, compare
from rejoule.analysis.pairing import pair, parse_filters, select
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Certificate, Energy, Run

TRACE = builders.trace(4)


def one(batch: int, trials: int = 1, factors: tuple[float, ...] = (1.0,), engine: str = "sim") -> list[Run]:
    source = "model:made-up" if engine == "sim" else "nvml-counter"
    return [
        builders.run(TRACE, batch, trial=t, scale=factors[t % len(factors)], engine=engine, energy_source=source)
        for t in range(trials)
    ]


def verdict(found: Diff, name: str) -> str:
    return next(row.verdict for row in found.rows if row.name == name)


def test_nodes_and_idle_make_up_the_change() -> None:
    """The changes of all nodes and of idle add up to the change of the workload, as do those of the phases."""
    found = compare(pair(one(1), one(8)))
    total = next(row for row in found.rows if row.name == "GPU energy")
    for scope in ("node", "phase"):
        assert sum(row.delta for row in found.rows if row.scope == scope) == pytest.approx(total.delta)
    assert {row.name for row in found.of("node")} == {*builders.CHAIN, "idle"}


def test_one_trial_in_virtual_time_is_exact() -> None:
    """On the simulator one trial suffices for a verdict, without an interval, and the headline says so."""
    found = compare(pair(one(1), one(8)))
    row = next(row for row in found.rows if row.name == "GPU energy")
    assert row.interval is None and row.verdict == "less"
    assert found.headlines[0].startswith("agentic: batch 8 uses ")
    assert "less energy than batch 1 (modelled (model:made-up); one trial)" in found.headlines[0]


def test_one_measured_trial_cannot_tell() -> None:
    """One measured trial on each side proves nothing, whatever the difference."""
    found = compare(pair(one(1, engine="vllm"), one(8, engine="vllm")))
    assert verdict(found, "GPU energy") == "cannot tell"
    assert "cannot tell" in found.headlines[0]


def test_clear_and_unclear_changes() -> None:
    """A change well outside the noise is called; one inside it is not; equal runs do not differ."""
    noise = (1.0, 1.01, 0.99, 1.02, 0.98)
    base = one(8, 5, noise, engine="vllm")
    better = one(8, 5, tuple(0.7 * n for n in (1.01, 1.0, 0.98, 1.01, 1.0)), engine="vllm")
    noisy = one(8, 5, (1.2, 0.8, 1.3, 0.75, 1.0), engine="vllm")
    assert verdict(compare(pair(base, better)), "GPU energy") == "less"
    assert verdict(compare(pair(better, base)), "GPU energy") == "more"
    assert verdict(compare(pair(base, noisy)), "GPU energy") == "cannot tell"
    assert {row.verdict for row in compare(pair(base, base)).rows} == {"no difference"}


def test_equal_configurations_are_rarely_called_different() -> None:
    """Of 20 comparisons of a configuration with itself under noise, at most one finds less or more energy."""
    random = np.random.default_rng(7)
    found = []
    for _ in range(20):
        a, b = (one(8, 5, tuple(np.exp(random.normal(0.0, 0.03, 5))), engine="vllm") for _ in "ab")
        found.append(verdict(compare(pair(a, b)), "GPU energy"))
    assert sum(v in ("less", "more") for v in found) <= 1


def test_unmeasured_energy_is_left_out() -> None:
    """Without energy there are no rows of joules, a note says so, and latency is still compared."""
    blind = [replace(run, energy=Energy()) for run in one(8)]
    found = compare(pair(one(1), blind))
    assert not found.of("node") and not found.headlines
    assert any("not measured" in note for note in found.notes)
    assert verdict(found, "makespan") == "less"


def refusal(a: list[Run], b: list[Run], **allowed: bool) -> str:
    with pytest.raises(RejouleError) as caught:
        pair(a, b, **allowed)
    return str(caught.value)


def test_different_work_is_refused() -> None:
    """Certificates that disagree in digest or tier are refused unless that is asked for."""
    other = [replace(run, certificate=Certificate("tokens", "other", 1)) for run in one(8)]
    weaker = [replace(run, certificate=Certificate("lengths", "same", 1)) for run in one(8)]
    assert "--allow-different-work" in refusal(one(1), other)
    assert "A is certified for tokens, B for lengths" in refusal(one(1), weaker)
    found = compare(pair(one(1), other, allow_different_work=True))
    assert any("different work" in note for note in found.notes)


def test_modelled_against_measured_is_refused() -> None:
    """Modelled joules meet measured ones only if asked for, and then with a note."""
    measured = one(8, engine="vllm")
    assert "--allow-modelled" in refusal(one(1), measured)
    found = compare(pair(one(1), measured, allow_modelled=True))
    assert any("model's error" in note for note in found.notes)


def test_nothing_pairs() -> None:
    """Sides without a common trace and trial are refused with what each holds."""
    later = [replace(run, trial=3) for run in one(8)]
    assert "A has agentic trial 0; B has agentic trial 3" in refusal(one(1), later)


def test_ambiguous_side() -> None:
    """A side with several configurations is refused with the values to choose from."""
    assert "max_num_seqs is 1, 8" in refusal([*one(1), *one(8)], one(8))


def test_filters() -> None:
    """Filters pick by knob or trace; an unknown knob or value is refused with those that exist."""
    runs = builders.grid({"agentic": TRACE}, [1, 8], [None, 300.0])
    assert len(select(runs, parse_filters(["max_num_seqs=8", "power_cap_w=300"]))) == 1
    assert len(select(runs, parse_filters(["power_cap_w=none", "trace=agentic"]))) == 2
    for words, said in ((["max_num_seqs=9"], "1, 8"), (["batch=8"], "max_num_seqs"), (["nonsense"], "KNOB=VALUE")):
        with pytest.raises(RejouleError, match=said):
            select(runs, parse_filters(words))
