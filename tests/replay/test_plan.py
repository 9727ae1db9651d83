"""The order of runs balances what drifts."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.plan import plan
from rejoule.traces.run import Configuration


@given(seed=st.integers(0, 99), caps=st.integers(1, 6), pairs=st.integers(1, 3))
def test_balanced(seed: int, caps: int, pairs: int) -> None:
    """Each trial holds every configuration once; over pairs of trials all have the same mean place."""
    configurations = [Configuration(power_cap_w=100.0 * (i + 1)) for i in range(caps)]
    runs = plan({"t": "d"}, configurations, trials=2 * pairs, seed=seed).runs
    places: dict[float, list[int]] = defaultdict(list)
    for trial in range(2 * pairs):
        block = runs[trial * caps : (trial + 1) * caps]
        assert {r.trial for r in block} == {trial} and len({r.id for r in block}) == caps
        for place, run in enumerate(block):
            assert run.configuration.power_cap_w is not None
            places[run.configuration.power_cap_w].append(place)
    assert {sum(found) for found in places.values()} == {pairs * (caps - 1)}


def test_servers_stay_together() -> None:
    """All caps of one batch size run on one server before the next is started."""
    configurations = [
        Configuration(engine="vllm", max_num_seqs=n, power_cap_w=w) for n in (1, 8, 64) for w in (None, 300.0, 500.0)
    ]
    runs = plan({"t": "d"}, configurations, trials=2, seed=3).runs
    batch = [run.configuration.max_num_seqs for run in runs]
    assert batch == [n for n in dict.fromkeys(batch) for _ in range(6)]
