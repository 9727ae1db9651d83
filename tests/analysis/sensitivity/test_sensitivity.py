"""Which knob moves what: planted effects are found as large as they are, and nothing is made of noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.analysis import builders

from rejoule.analysis.cli.sensitivity import _caption
from rejoule.analysis.sensitivity import Sensitivity, sensitivities
from rejoule.analysis.sensitivity.shares import shares
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Configuration, Energy, Run

TRACE = builders.trace(3)
PLAIN = builders.run(TRACE, None)
Change = Callable[[Configuration], float]
"""By how much the logarithm of joules is more."""
UNKNOWN = "where the model's error is not known, verdicts are what it says, not a GPU"


def runs_of(
    configurations: Sequence[Configuration], change: Change, trials: int = 1, noise: float = 0.0, seed: int = 0
) -> list[Run]:
    """Runs whose joules are planted; with noise they are measured ones."""
    random = np.random.default_rng(seed)
    found = []
    for number, configuration in enumerate(configurations):
        for trial in range(trials):
            more = exp(change(configuration) + noise * random.standard_normal())
            engine, source = ("vllm", "nvml-counter") if noise else ("sim", "model:made-up")
            steps = tuple(replace(s, energy_j=(s.energy_j or 0.0) * more) for s in PLAIN.steps or ())
            energy = replace(PLAIN.energy, gpu_j=(PLAIN.energy.gpu_j or 0.0) * more, source={"gpu": source})
            mine = replace(configuration, engine=engine)
            named = f"c{number}-t{trial}"
            found.append(replace(PLAIN, id=named, configuration=mine, trial=trial, steps=steps, energy=energy))
    return found


def crossed(
    batches: Sequence[int] = (1, 8, 64), caps: Sequence[float | None] = (300.0, None), **more: Sequence[object]
) -> list[Configuration]:
    made = []
    for batch, cap, options in product(batches, caps, list(product(*more.values()))):
        given = dict(zip(more, options, strict=True))
        made.append(Configuration(profile="made-up", max_num_seqs=batch, power_cap_w=cap, options=given))
    return made


def of(found: Sequence[Run]) -> Sensitivity:
    (one,) = sensitivities(found, {"agentic": TRACE})
    return one


def by_size(c: Configuration) -> float:
    return -0.3 * log(c.max_num_seqs or 1)


def test_a_planted_effect_has_its_size_and_its_place() -> None:
    """The knob with the largest effect comes first, with the ends between which it is largest."""
    found = of(runs_of(crossed(), lambda c: by_size(c) + (0.1 if c.power_cap_w else 0.0)))
    batch, cap = found.effects
    assert (batch.knob, batch.start, batch.end, batch.verdict) == ("max_num_seqs", "batch 1", "batch 64", "moves")
    assert batch.change == pytest.approx(64**-0.3 - 1) and batch.settings == 2
    assert batch.least == pytest.approx(batch.change) and batch.most == pytest.approx(batch.change)
    assert cap.change == pytest.approx(exp(-0.1) - 1) and (cap.start, cap.end) == ("300 W cap", "no cap")
    assert batch.share is not None and cap.share is not None
    assert batch.share + cap.share == pytest.approx(1.0) and batch.share > 0.9
    assert found.interplays == () and "GPU energy depends most on batch size: −71.3 %" in found.headline


def test_a_knob_that_changes_nothing_is_inert() -> None:
    """A simulated knob within two percent everywhere is inert in the model, whatever the others do."""
    found = of(runs_of(crossed(), lambda c: by_size(c) + (0.01 if c.power_cap_w else 0.0)))
    assert [(e.label, e.verdict) for e in found.effects] == [("batch size", "moves"), ("power cap", "inert")]
    assert found.headline.endswith("inert in the model: power cap")


def test_inert_needs_every_setting() -> None:
    """A cap that binds at one batch size alone is not inert, and the interplay says where it binds."""
    found = of(runs_of(crossed((1, 64)), lambda c: 0.2 if c.power_cap_w and c.max_num_seqs == 64 else 0.0))
    cap = next(e for e in found.effects if e.knob == "power_cap_w")
    assert cap.verdict == "moves" and cap.least == pytest.approx(exp(-0.2) - 1) and cap.most == pytest.approx(0.0)
    (one,) = found.interplays
    assert str(one) == "batch 1 → batch 64: +22.1 % with 300 W cap, 0.0 % with no cap"


def test_knobs_that_changed_together_are_not_told_apart() -> None:
    """Nobody's effect is guessed where no two configurations differ in one knob alone."""
    tied = [Configuration(profile="made-up", max_num_seqs=b, power_cap_w=c) for b, c in ((1, 300.0), (8, 500.0))]
    found = of(runs_of(tied, by_size))
    assert {(e.verdict, e.change, e.share) for e in found.effects} == {("not separable", None, None)}
    assert found.effects[0].reason == "it always changed with power cap"
    assert found.headline.endswith("GPU energy of the highest is +86.6 % against the lowest")


def test_the_order_is_of_ratios() -> None:
    """To a third as much is farther than to twice as much, whichever value a knob begins with."""
    found = of(runs_of(crossed((1, 8)), lambda c: (-log(3) * (c.max_num_seqs == 8)) + log(2) * (c.power_cap_w is None)))
    assert [round(e.change or 0.0, 2) for e in found.effects] == [-0.67, 1.0]
    assert "depends most on batch size" in found.headline


def test_what_is_left_out_is_told() -> None:
    """A configuration without the figure, and a workload without a matrix, are named; without any, it is an error."""
    runs = runs_of(crossed((1, 8)), by_size)
    bare = [replace(r, energy=Energy()) if r.id == "c3-t0" else r for r in runs]
    lone = replace(runs[0], trace="lone")
    (found,) = sensitivities([*bare, lone], {"agentic": TRACE, "lone": TRACE})
    assert found.cells == 3 and "batch 8, no cap left out: GPU energy is not known" in found.notes
    assert "not in these tables: lone has runs of one configuration alone" in found.notes
    with pytest.raises(
        RejouleError, match=r"GPU memory energy of 0 of 4 configurations: all configurations left out: .* not known"
    ):
        sensitivities(runs, {"agentic": TRACE}, "joules.memory")
    with pytest.raises(RejouleError, match=r"held time per workflow of 0 of 4 .* is 0, and changes are ratios"):
        sensitivities(runs, {"agentic": TRACE}, "held")


def test_equal_simulated_trials_say_nothing_of_those_that_differ() -> None:
    """The floor is that of trials that are drawn anew, whatever equal ones stand beside them."""
    drawn = [
        Configuration(profile="made-up", max_num_seqs=b, arrivals=a) for b in (1, 8) for a in ("burst", "poisson:2")
    ]
    runs = [replace(r, configuration=replace(r.configuration, engine="sim")) for r in runs_of(drawn, by_size, 6, 0.1)]
    still = {r.configuration.max_num_seqs: r.energy for r in runs if r.configuration.arrivals == "burst"}
    mixed = [
        replace(r, energy=still[r.configuration.max_num_seqs]) if r.configuration.arrivals == "burst" else r
        for r in runs
    ]
    found, alone = of(mixed), of([r for r in runs if r.configuration.arrivals != "burst"])
    assert found.noise_degrees == alone.noise_degrees == 10 and found.noise == pytest.approx(alone.noise)


def test_missing_combinations_are_told() -> None:
    """Effects come from what was run, and shares, which need it all, are not made up."""
    found = of(runs_of(crossed()[:-1], by_size))
    assert any("5 of 6 combinations" in note for note in found.notes)
    assert found.effects[0].change == pytest.approx(64**-0.3 - 1) and found.effects[0].settings == 1
    assert all(e.share is None for e in found.effects)


def test_noise_alone_moves_nothing() -> None:
    """Of 100 matrices of equal configurations, in about 5 some knob is said to move joules."""
    wrong = sum(
        any(e.verdict == "moves" for e in of(runs_of(crossed((1, 8)), lambda c: 0.0, 3, 0.013, seed)).effects)
        for seed in range(100)
    )
    assert wrong <= 12


def test_what_is_shown_inert_is_seldom_not() -> None:
    """Of matrices in which a knob truly moves joules by just over two percent, few call it inert."""
    wrong = 0
    for seed in range(60):
        found = of(runs_of(crossed((1, 8)), lambda c: 0.0205 if c.power_cap_w else 0.0, 8, 0.01, seed))
        wrong += any(e.verdict == "inert" for e in found.effects if e.knob == "power_cap_w")
    assert wrong <= 5


def test_many_trials_show_that_a_knob_is_inert() -> None:
    found = of(runs_of(crossed((1, 8)), by_size, 12, 0.005))
    assert {e.label: e.verdict for e in found.effects} == {"batch size": "moves", "power cap": "inert"}
    assert found.noise == pytest.approx(0.004, rel=0.3) and found.noise_degrees == 44


def test_one_measured_trial_shows_nothing() -> None:
    found = of(runs_of(crossed(), by_size, 1, 0.01))
    assert {e.verdict for e in found.effects} == {"cannot tell"} and found.noise is None
    assert "nothing is known of what equal runs differ by" in (found.effects[0].reason or "")


def test_the_models_error_is_counted() -> None:
    """An effect within what the profile's differences may be off by is not said to move anything."""
    error = {"knobs": ["max_num_seqs"], "differences": 9, "metrics": {"GPU energy": {"p95": 0.07, "median": 0.02}}}
    engine = {"profile": "made-up", "expected_error": error}
    small, large = (
        [replace(r, engine={**r.engine, **engine}) for r in runs_of(crossed((1, 8), (None,)), change)]
        for change in (lambda c: 0.05 if c.max_num_seqs == 8 else 0.0, by_size)
    )
    assert of(small).effects[0].verdict == "cannot tell" and of(large).effects[0].verdict == "moves"
    assert of(large).effects[0].allowance == 0.07


def test_what_a_cap_may_be_off_by_is_that_of_the_cells_compared() -> None:
    """A knob is judged at each setting by what is known there, and the least and the greatest of it are said."""
    error = {"knobs": ["max_num_seqs"], "differences": 9, "metrics": {"GPU energy": {"p95": 0.05, "median": 0.02}}}
    curve = {"known_from_w": 500.0, "caps": [{"at": 300.0, "metrics": {"GPU energy": 0.4}}]}
    engine = {"profile": "made-up", "expected_error": error, "clock_curve": curve}

    def found(caps: Sequence[float | None]) -> Sensitivity:
        runs = runs_of(crossed((1, 8), caps), lambda c: 0.2 if c.max_num_seqs == 8 else 0.0)
        return of([replace(run, engine={**run.engine, **engine}) for run in runs])

    batch = next(e for e in found((300.0, None)).effects if e.knob == "max_num_seqs")
    assert batch.allowance_least == 0.05 and batch.allowance == pytest.approx(0.45)
    assert batch.verdict == "moves" and found((300.0,)).effects[0].verdict == "cannot tell"
    assert sum("clock curve assumed" in note for note in found((300.0, None)).notes) == 1
    caption = _caption(found((300.0, None)))
    assert "batch size 5.0 % to 45 %" in caption and UNKNOWN not in caption


def test_a_verdict_without_a_known_error_is_said_to_be_the_models_own() -> None:
    runs = runs_of(crossed((1, 8)), by_size)
    modelled = of([replace(run, engine={"profile": "made-up", "expected_error": None}) for run in runs])
    assert modelled.modelled and UNKNOWN in _caption(modelled)


def test_a_switch_is_told_from_its_default() -> None:
    found = of(
        runs_of(crossed((8,), (None,), enforce_eager=(True, False)), lambda c: 0.5 * bool(c.options["enforce_eager"]))
    )
    assert (found.effects[0].start, found.effects[0].end) == ("CUDA graphs", "no CUDA graphs")


@given(st.data())
def test_shares_add_up(data: st.DataObject) -> None:
    """They are never negative, add up to 1, and a knob that does nothing has none."""
    sizes = data.draw(st.lists(st.integers(2, 3), min_size=1, max_size=4))
    levels = [tuple(map(str, places)) for places in product(*map(range, sizes))]
    weight = data.draw(st.lists(st.floats(0.1, 2.0), min_size=len(sizes), max_size=len(sizes)))
    idle = data.draw(st.integers(0, len(sizes) - 1))
    weight[idle] = 0.0
    logs = [sum(w * int(p) for w, p in zip(weight, place, strict=True)) for place in levels]
    found = shares(levels, logs)
    if len(sizes) == 1:
        assert found is None
        return
    assert found is not None
    assert sum(found) == pytest.approx(1.0) and min(found) >= -1e-12 and found[idle] == pytest.approx(0.0, abs=1e-12)


def test_kinds_of_joules_are_not_mixed() -> None:
    mixed = [*runs_of(crossed((1,)), by_size), *runs_of(crossed((8,)), by_size, 1, 0.01)]
    with pytest.raises(RejouleError, match="some of these joules are modelled and some measured"):
        of(mixed)
    with pytest.raises(RejouleError, match="agentic has runs of one configuration alone"):
        of(runs_of(crossed((1,), (None,)), by_size))
    with pytest.raises(RejouleError, match="no figure is called 'watts'"):
        sensitivities(runs_of(crossed(), by_size), {"agentic": TRACE}, "watts")


@pytest.mark.parametrize("option", ["idle_s", "warm_up", "step_tap", "ready_timeout_s", "sampler"])
def test_how_runs_were_measured_is_no_knob(option: str) -> None:
    """Runs that differ in it are trials of one configuration, and that is said."""
    found = of(runs_of(crossed((1, 8), (None,), **{option: (0, 1)}), by_size))
    assert [e.knob for e in found.effects] == ["max_num_seqs"] and found.cells == 2
    assert found.effects[0].change == pytest.approx(8**-0.3 - 1)
    assert any(note.startswith(f"measured with more than one {option.replace('_', ' ')},") for note in found.notes)


def test_seeds_are_draws_and_no_knob() -> None:
    """Runs that differ in the seed alone are trials of one configuration, whose spread is the noise."""
    seeds = [replace(c, seed=seed) for c in crossed((1, 8), (None,)) for seed in range(6)]
    drawn = of(runs_of(seeds, lambda c: by_size(c) + 0.01 * (c.seed % 3)))
    assert [e.knob for e in drawn.effects] == ["max_num_seqs"]
    assert drawn.cells == 2 and drawn.noise_degrees == 10 and drawn.noise is not None and drawn.noise > 0.005
    assert any("seed" in note for note in drawn.notes)
    with pytest.raises(RejouleError, match="one configuration alone"):
        of(runs_of([replace(c, seed=seed) for c in crossed((8,), (None,)) for seed in range(3)], by_size))
