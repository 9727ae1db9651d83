"""What is advised is best among what was run, and keeps what it says; what was not run is never taken for it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import exp, inf, log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis import builders

import rejoule
from rejoule.analysis.advice import Advice, advise, objectives
from rejoule.analysis.advice.file import experiment
from rejoule.analysis.advice.known import known
from rejoule.analysis.advice.matrix import matrix
from rejoule.analysis.advice.surface import Place, fitted
from rejoule.analysis.comparison.allowance import model_error
from rejoule.analysis.summary.cells import gather
from rejoule.analysis.summary.words import metric_named
from rejoule.replay.cli.experiment_file import read
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Configuration, Run, knobs
from rejoule.traces.runs import load_runs
from rejoule.traces.store import save
from rejoule.traces.testing import random_trace

TRACE = builders.trace(3)
PLAIN = builders.run(TRACE, None)
BATCHES = (1, 4, 16, 64)
CAPS = (300.0, 500.0, None)
Figure = Callable[[Configuration], float]


def configurations(batches: Sequence[int] = BATCHES, caps: Sequence[float | None] = CAPS) -> list[Configuration]:
    return [Configuration(profile="made-up", max_num_seqs=b, power_cap_w=c) for b in batches for c in caps]


def joules(c: Configuration) -> float:
    return float((c.max_num_seqs or 1) ** -0.3) * (0.8 if c.power_cap_w == 300.0 else 1.0)


def seconds(c: Configuration) -> float:
    return float((c.max_num_seqs or 1) ** 0.2) * (1.5 if c.power_cap_w == 300.0 else 1.0)


def run_of(
    c: Configuration,
    j: Figure = joules,
    s: Figure = seconds,
    trial: int = 0,
    measured: bool = False,
    noise: float = 1.0,
) -> Run:
    """A run whose joules and times are so many times those of the plain one."""
    engine, source = ("vllm", "nvml-counter") if measured else ("sim", "model:made-up")
    slow = s(c)
    return replace(
        PLAIN,
        id=f"{source}-{c.max_num_seqs}-{c.power_cap_w}-{trial}",
        configuration=replace(c, engine=engine),
        trial=trial,
        makespan_s=PLAIN.makespan_s * slow,
        workflows=tuple(replace(w, end_s=w.arrival_s + slow * (w.end_s - w.arrival_s)) for w in PLAIN.workflows),
        steps=None,
        energy=replace(PLAIN.energy, gpu_j=(PLAIN.energy.gpu_j or 0.0) * j(c) * noise, source={"gpu": source}),
    )


def of(runs: Sequence[Run], *slo: str, **more: object) -> Advice:
    (one,) = advise(gather(runs, {"agentic": TRACE}), objectives(slo), **more)  # type: ignore[arg-type]
    return one


def longest_s(c: Configuration) -> float:
    """The p50 of a workflow's time."""
    return sorted(w.end_s - w.arrival_s for w in run_of(c).workflows)[1]


@settings(max_examples=30, deadline=None)
@given(bound=st.floats(0.9, 4.0))
def test_the_best_of_what_was_run_is_advised(bound: float) -> None:
    """Of all configurations that keep the objective, it has the least joules; if none keeps it, that is said."""
    limit_s = bound * longest_s(Configuration(max_num_seqs=1))
    found = of([run_of(c) for c in configurations()], f"workflow.p50={limit_s}")
    fit = [c for c in configurations() if longest_s(c) <= limit_s]
    if not fit:
        assert found.best is None and found.nearest is not None and "nothing that was run keeps" in found.headline
        return
    best = min(fit, key=joules)
    assert found.best is not None
    assert dict(found.best.settings) == {"max_num_seqs": best.max_num_seqs, "power_cap_w": best.power_cap_w}
    assert all(c.verdict in ("keeps", "misses") for c in found.candidates)


def test_without_an_objective_joules_alone_decide() -> None:
    found = of([run_of(c) for c in configurations()])
    assert found.best is not None and found.best.label == "batch 64, 300 W cap" and found.sure
    assert found.front == () and found.confirm == ()


def test_the_saving_is_counted_from_today() -> None:
    """Today is the configuration without a knob set, or the one that is named."""
    runs = [run_of(c) for c in configurations()]
    found = of(runs, today=["max_num_seqs=1", "power_cap_w=none"])
    assert found.today is not None and found.today.label == "batch 1, no cap"
    assert found.saving is not None and found.saving.value == pytest.approx(1 - 0.8 * 64**-0.3)
    assert of(runs).today is None
    with pytest.raises(RejouleError, match="3 configurations have max_num_seqs=1"):
        of(runs, today=["max_num_seqs=1"])
    with pytest.raises(RejouleError, match="batching does not vary here"):
        of(runs, today=["batching=static"])


def test_what_was_not_run_is_predicted_and_never_advised() -> None:
    """A cell between those that were run may be named to be run next; the advice is one of those that were."""
    some = [c for c in configurations() if c.max_num_seqs != 64]
    found = of([run_of(c) for c in some], more={"max_num_seqs": [64]})
    assert found.best is not None and found.best.kind == "modelled"
    assert {c.kind for c in found.candidates if c.settings["max_num_seqs"] == 64} == {"predicted"}
    assert found.confirm[0].kind == "predicted" and found.confirm[0].settings == {
        "max_num_seqs": 64,
        "power_cap_w": 300.0,
    }
    assert found.confirm[0].trials == 0 and found.confirm[0].power_w is None


def test_running_what_is_named_finds_the_best() -> None:
    """From one configuration on, the cells that it names lead to the best of all before half of them were run."""
    more = {"max_num_seqs": BATCHES, "power_cap_w": CAPS}
    ran = [run_of(Configuration(profile="made-up", max_num_seqs=64))]
    limit_s = 1.6 * longest_s(Configuration(max_num_seqs=1))
    while (found := of(ran, f"workflow.p50={limit_s}", more=more, confirm=1)).confirm and len(ran) < 6:
        ran.append(run_of(Configuration(profile="made-up", **found.confirm[0].settings)))
    best = min((c for c in configurations() if longest_s(c) <= limit_s), key=joules)
    assert found.best is not None and found.best.settings["max_num_seqs"] == best.max_num_seqs


def test_the_best_is_not_left_before_what_is_beside_it() -> None:
    """Where the search ends by itself, no cell that differs from the best in one knob is better, however little."""
    more = {"max_num_seqs": BATCHES, "power_cap_w": CAPS}

    def flat(c: Configuration) -> float:
        return {1: 3.0, 4: 1.0001, 16: 1.0, 64: 1.0002}[c.max_num_seqs or 64] * (1.3 if c.power_cap_w is None else 1.0)

    ran = [run_of(Configuration(profile="made-up", max_num_seqs=64), j=flat)]
    while (found := of(ran, more=more, confirm=1)).confirm:
        ran.append(run_of(Configuration(profile="made-up", **found.confirm[0].settings), j=flat))
    assert found.best is not None and found.best.settings["max_num_seqs"] == 16


def test_what_is_left_out_is_said() -> None:
    """A configuration whose joules are not known is not advised, and a note says which and why."""
    blind = run_of(Configuration(profile="made-up", max_num_seqs=64))
    found = of(
        [*map(run_of, configurations((1, 4), (None,))), replace(blind, energy=replace(blind.energy, gpu_j=None))]
    )
    assert found.best is not None and found.best.label == "batch 4"
    assert any(note.startswith("batch 64 left out: ") for note in found.notes)


def test_a_workload_without_joules_is_named_beside_the_others() -> None:
    """Nothing is advised of it, and that is said."""
    blind = [
        replace(run, trace="dark", energy=replace(run.energy, gpu_j=None)) for run in map(run_of, configurations())
    ]
    (found,) = advise(gather([*map(run_of, configurations()), *blind], {"agentic": TRACE, "dark": TRACE}))
    assert "dark: no run has joules that may be used" in found.notes


def test_what_would_be_the_same_run_is_not_run() -> None:
    """It is known by the run that it is like, is never advised nor named to be run, and says why."""
    still = replace(run_of(Configuration(profile="made-up", max_num_seqs=4, power_cap_w=500.0)), readings=None)
    still = replace(still, power_cap=replace(still.power_cap, in_force_w=500.0, bound_fraction=0.0))
    found = of([still], more={"power_cap_w": [300.0, 600.0]})
    kinds = {c.settings["power_cap_w"]: c for c in found.candidates}
    assert [kinds[cap].kind for cap in (300.0, 500.0, 600.0)] == ["predicted", "modelled", "inferred"]
    assert kinds[600.0].joules == kinds[500.0].joules and kinds[600.0].trials == 0
    assert kinds[600.0].same_as == "500 W cap: the power cap never held the clock down"
    assert [c.settings["power_cap_w"] for c in found.confirm] == [300.0]
    assert found.only is not None and found.only.label == "500 W cap"
    assert any("would be the same run as 500 W cap" in note for note in found.notes)


@pytest.mark.parametrize("more", [{}, {"max_num_seqs": [4, 16]}])
def test_a_single_configuration_is_not_advised(more: dict[str, list[int]]) -> None:
    """There is nothing to choose among: that is said, with whether it keeps what is asked and what to run next."""
    found = of([run_of(Configuration(profile="made-up", max_num_seqs=64))], "workflow.p50=1ms", more=more)
    assert found.best is None and found.only is not None and found.front == () and found.nearest is None
    assert "nothing to choose among" in found.headline and "misses workflow latency p50" in found.headline
    then = [f"run next: {found.confirm[0].label}"] if more else ["--sweep", "--consider"]
    assert all(words in found.headline for words in then)


def test_a_figure_that_a_run_does_not_tell_is_not_guessed_from_others() -> None:
    """Nor advised by such a guess; and a figure of 0 is known, and keeps any bound."""
    blind = run_of(Configuration(profile="made-up", max_num_seqs=64))
    held = [run_of(c) for c in configurations((1, 4, 16), (None,))]
    known = [replace(run, energy=replace(run.energy, cpu_j=5.0 * k)) for k, run in enumerate(held)]
    found = of([*known, blind], "joules.cpu=8J")
    verdicts = {c.label: c.verdict for c in found.candidates}
    assert verdicts == {"batch 1": "keeps", "batch 4": "keeps", "batch 16": "misses", "batch 64": "not known"}
    assert found.best is not None and found.best.label == "batch 4"


def test_the_load_is_no_setting_to_consider() -> None:
    with pytest.raises(RejouleError, match="what is asked of the server"):
        of([run_of(c) for c in configurations()], more={"output_scale": [0.5]})


def test_how_runs_are_measured_is_no_setting_to_consider_and_no_cell() -> None:
    """Nor is a name that no knob has."""
    plain = [run_of(c) for c in configurations()]
    idle = [replace(run, configuration=replace(run.configuration, options={"idle_s": 0})) for run in plain]
    found = of([*plain, *idle])
    assert len(found.candidates) == len(plain) and any("more than one idle s," in note for note in found.notes)
    assert not any("there twice" in note for note in found.notes)
    for name, told in (("idle_s", "how a run is measured"), ("batch", "no run has a knob 'batch'")):
        with pytest.raises(RejouleError, match=told):
            of(idle, more={name: [1]})


def test_trials_say_how_sure_it_is() -> None:
    """A bound within the interval may be missed; without a second trial nothing is known of an interval."""
    random = np.random.default_rng(1)

    def timed(spread: float) -> Figure:
        return lambda c: seconds(c) * exp(spread * random.standard_normal())

    limit_s = 1.05 * longest_s(Configuration(max_num_seqs=4))
    some = configurations((1, 4), (None,))
    steady, wide = (
        of([run_of(c, s=timed(x), trial=t, measured=True) for c in some for t in range(3)], f"workflow.p50={limit_s}")
        for x in (0.002, 0.1)
    )
    four = {found.candidates[0].label: found.candidates[0] for found in (steady, wide)}["batch 4"]
    assert steady.best is not None and steady.best.verdict == "keeps" and steady.best.chance is not None
    assert steady.best.label == four.label == "batch 4" and steady.best.chance > 0.99
    assert {c.verdict for c in wide.candidates} & {"may miss"}
    once = of([run_of(c, measured=True) for c in some], f"workflow.p50={limit_s}")
    assert once.best is not None and once.best.chance is None and "judged by the values alone" in once.headline


def test_a_saving_between_measured_cells_has_the_error_of_both() -> None:
    """As many trials on either side give as large an error; the interval is of their difference, not of one of them."""
    random = np.random.default_rng(2)
    some = configurations((1, 4), (None,))
    runs = [
        run_of(c, trial=t, measured=True, noise=exp(0.01 * random.standard_normal())) for c in some for t in range(4)
    ]
    found = of(runs, today=["max_num_seqs=1"])
    assert found.best is not None and found.best.joules is not None and found.today is not None
    assert found.saving is not None and found.saving.low is not None and found.saving.high is not None
    one = found.best.joules
    assert one.low is not None and one.high is not None
    width = log((1 - found.saving.low) / (1 - found.saving.high))
    assert width == pytest.approx(2**0.5 * log(one.high / one.low))


def test_joules_that_a_server_modelled_are_not_called_measured() -> None:
    """A server of a simulated engine answers over HTTP; what it says of joules is a model's all the same."""
    served = [replace(run.configuration, engine="http://127.0.0.1:8000") for run in map(run_of, configurations())]
    runs = [replace(run_of(c), configuration=told) for c, told in zip(configurations(), served, strict=True)]
    assert {one.kind for one in of(runs, "workflow.p50=9s").candidates} == {"modelled"}


def test_what_a_cap_may_be_off_by_is_that_of_its_own_cells(tmp_path: Path) -> None:
    """Where the clock curve is assumed, capped cells are known less well, and those without a binding cap as before."""
    sweep: dict[str, list[float]] = {"max_num_seqs": [1, 8], "power_cap_w": [250.0, 700.0]}
    with pytest.warns(rejoule.RejouleWarning, match="clock curve assumed"):
        rejoule.replay_traces({"made-up": random_trace(1)}, tmp_path / "runs", {}, sweep=sweep, progress=False)
    made = load_runs(tmp_path / "runs")
    (one,) = advise(gather(made.runs, made.traces), objectives(["workflow.p50=9999s"]))
    wide = {c.settings["power_cap_w"]: (c.joules.high or inf) / (c.joules.low or 1) for c in one.candidates if c.joules}
    assert 1.0 < wide[700.0] < 1.2 < wide[250.0]
    # Of cells that were never run, too: by their own caps.
    metric = metric_named("joules.workflow")
    (workload,) = gather(made.runs, made.traces)
    plan = matrix(workload.cells, {"power_cap_w": [650.0], "max_num_seqs": [4]}, [metric])
    off = known(plan, metric, model_error(made.runs)).model
    assert plan.names == ("max_num_seqs", "power_cap_w")
    errors = [off[4, cap] for cap in (700.0, 650.0, 250.0)]
    assert 0.0 < (errors[0] or inf) < (errors[1] or inf) < (errors[2] or inf) < inf


def test_measured_cells_count_and_simulated_ones_are_scaled_to_them() -> None:
    """A simulator that is off by a factor is held to what was measured; what was measured stands for itself."""
    off = [run_of(c, j=lambda c: 1.2 * joules(c)) for c in configurations()]
    real = [run_of(c, measured=True, trial=t) for c in configurations((1,), (None, 500.0)) for t in range(2)]
    found = of([*off, *real], "workflow.p50=9s")
    kinds = {c.label: c for c in found.candidates}
    alone = of([run_of(c) for c in configurations()], "workflow.p50=9s")
    assert kinds["batch 1, no cap"].kind == "measured" and kinds["batch 64, no cap"].kind == "modelled"
    for one in alone.candidates:
        mine = kinds[one.label]
        assert one.joules is not None and mine.joules is not None
        assert mine.joules.value == pytest.approx(one.joules.value)
    assert any("scaled to the measured ones" in note for note in found.notes)


def test_what_is_named_is_an_experiment_file(tmp_path: Path) -> None:
    """It holds the very cells, with the knobs that all share, and reads as any experiment."""
    save(TRACE, tmp_path / "agentic.jsonl.zst")
    some = [replace(c, options={"enforce_eager": True}) for c in configurations((1, 16))]
    found = of([run_of(c) for c in some], more={"max_num_seqs": [4, 64]}, confirm=2)
    text = experiment(found, found.confirm, tmp_path, 3, "next.toml")
    (tmp_path / "next.toml").write_text(text)
    held = read(tmp_path / "next.toml")
    assert held.trials == 3 and [path.name for path in held.traces] == ["agentic.jsonl.zst"]
    wanted = [dict(one.settings) for one in found.confirm]
    assert [{name: knobs(c)[name] for name in wanted[0]} for c in held.configurations] == wanted
    assert all(c.profile == "made-up" and c.options == {"enforce_eager": True} for c in held.configurations)
    assert tomllib.loads(text)["cells"]
    with pytest.raises(RejouleError, match="nothing to run"):
        experiment(found, (), tmp_path, 1, "next.toml")
    with pytest.raises(RejouleError, match="has no trace agentic"):
        experiment(found, found.confirm, tmp_path / "none", 1, "next.toml")


@pytest.mark.parametrize(
    ("slo", "told"),
    [
        (["workflow.p99"], "is no objective"),
        (["workflow.p99=0s"], "no bound above 0"),
        (["workflow.p99=20 J"], "has no unit 'J'"),
        (["latency=20s"], "no figure is called 'latency'"),
        (["workflow.p99=20s", "workflow.p99=2s"], "has two bounds"),
        (["joules.cpu=2J"], "no run knows CPU energy"),
    ],
)
def test_what_is_no_objective_is_refused_with_a_remedy(slo: list[str], told: str) -> None:
    with pytest.raises(RejouleError, match=told):
        of([run_of(c) for c in configurations()], *slo)


def test_too_many_combinations_are_refused() -> None:
    with pytest.raises(RejouleError, match="combinations"):
        of([run_of(c) for c in configurations()], more={"max_num_seqs": list(range(1, 3000))})


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("ab")), min_size=3, max_size=8, unique=True))
def test_a_surface_goes_through_what_was_run(places: list[Place]) -> None:
    """At a cell that was run it says what came out; away from all, it says that it knows less."""
    logs = [0.3 * float(x) + (0.1 if word == "a" else 0.0) for x, word in places]
    surface = fitted(places, logs)
    assert surface is not None
    for place, value in zip(places, logs, strict=True):
        assert surface.at(place).log == pytest.approx(value, abs=2e-2)
    at = [surface.at(place).error for place in places]
    assert surface.at((9.0, "c")).error >= max(at)
    assert fitted(places[:2], logs[:2]) is None


def test_agents_a_megawatt_are_workflows_under_way_by_power() -> None:
    found = of([run_of(c) for c in configurations()])
    run = run_of(configurations()[-1])
    one = next(c for c in found.candidates if c.label == "batch 64, no cap")
    way = sum(w.end_s - w.arrival_s for w in run.workflows) / run.makespan_s
    watts = (run.energy.gpu_j or 0.0) / run.makespan_s
    assert one.agents_per_mw == pytest.approx(way / watts * 1e6)


def settings_of(found: Advice) -> Mapping[str, object]:
    assert found.best is not None
    return found.best.settings


def test_ratios_of_joules_do_not_depend_on_the_unit() -> None:
    """Ten times the joules everywhere advise the same."""
    few = of([run_of(c) for c in configurations((1, 16))])
    many = of([run_of(c, j=lambda c: 10 * joules(c)) for c in configurations((1, 16))])
    assert settings_of(few) == settings_of(many) and log(joules(configurations()[0])) == pytest.approx(log(0.8))
