from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.analysis import builders, noisy

from rejoule.analysis.diff import Diff, compare
from rejoule.analysis.pairing import choices, pair, parse_filters, select
from rejoule.analysis.summary.lines import NO_AGENT
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


AGENTS = {"plan": "lead", "write": "writer"}


def test_agents_are_a_table_of_their_own() -> None:
    """They and idle make up the change; where fewer than two are told apart, there is none."""
    a, b = ([builders.with_agents(run, AGENTS) for run in one(batch)] for batch in (1, 8))
    found = compare(pair(a, b))
    total = next(row for row in found.rows if row.name == "GPU energy")
    assert [row.name for row in found.of("agent")] == ["lead", "writer", NO_AGENT, "idle"]
    assert sum(row.delta for row in found.of("agent")) == pytest.approx(total.delta)
    assert "agent" in found.columns()["scope"]
    assert not compare(pair(one(1), one(8))).of("agent")
    alone = [builders.with_agents(run, dict.fromkeys(builders.CHAIN, "lead")) for run in one(8)]
    assert not compare(pair(alone, alone)).of("agent")


def test_agents_that_one_side_does_not_name_are_said() -> None:
    """Runs of before agents were recorded are compared with later ones, but not by agent, and a note says so."""
    found = compare(pair([builders.with_agents(run, AGENTS) for run in one(1)], one(8)))
    assert found.of("node") and not found.of("agent")
    assert any("joules by agent are not compared in 1 pair" in note for note in found.notes)


def test_an_agent_named_as_a_line_is_quoted() -> None:
    """Its joules stay apart from those of the line, and a note says what the quotes are."""
    names = {"plan": "idle", "write": NO_AGENT}
    found = compare(pair(*([builders.with_agents(run, names) for run in one(batch)] for batch in (1, 8))))
    assert [row.name for row in found.of("agent")] == ['"idle"', f'"{NO_AGENT}"', NO_AGENT, "idle"]
    assert any(f'in quotes: "idle", "{NO_AGENT}"' in note for note in found.notes)


def test_agents_are_a_family_of_their_own() -> None:
    """Where each node is an agent, rows by agent have the p of those by node: neither corrects the other."""
    noise = (1.0, 1.01, 0.99, 1.02, 0.98)
    named = {node: f"agent of {node}" for node in builders.CHAIN}
    a, b = (
        [builders.with_agents(run, named) for run in one(8, 5, factors, engine="vllm")]
        for factors in (noise, tuple(0.9 / n for n in noise))
    )
    found = compare(pair(a, b))
    by_node = {named.get(row.name, row.name): (row.p, row.p_same, row.verdict) for row in found.of("node")}
    assert {row.name: (row.p, row.p_same, row.verdict) for row in found.of("agent")} == by_node
    plain = compare(pair(one(8, 5, noise, engine="vllm"), one(8, 5, tuple(0.9 / n for n in noise), engine="vllm")))
    assert plain.of("node") == found.of("node")


def test_a_line_of_one_side_counts_as_nothing_on_the_other() -> None:
    """Where only one side waited for tools, the lines still add up, and idle stands last."""
    a = [replace(run, tools=()) for run in one(1)]
    b = [replace(run, tools=tuple(replace(t, start_s=0.0, end_s=run.makespan_s) for t in run.tools)) for run in one(8)]
    found = compare(pair(a, b))
    total = next(row for row in found.rows if row.name == "GPU energy")
    nodes = found.of("node")
    assert [row.name for row in nodes][-2:] == ["tool wait", "idle"] and nodes[-2].a == 0.0 < nodes[-2].b
    assert sum(row.delta for row in nodes) == pytest.approx(total.delta)


def test_sources_are_named_as_the_sides_are() -> None:
    """The source of A stands before that of B, whatever their names."""
    a = [replace(run, energy=replace(run.energy, source={"gpu": "model:z"})) for run in one(1)]
    b = [replace(run, energy=replace(run.energy, source={"gpu": "model:a"})) for run in one(8)]
    assert compare(pair(a, b)).source == "modelled (model:z) and modelled (model:a)"


def test_one_trial_in_virtual_time_is_exact() -> None:
    """On the simulator one trial suffices for a verdict, without an interval, and the headline says so."""
    found = compare(pair(one(1), one(8)))
    row = next(row for row in found.rows if row.name == "GPU energy")
    assert row.interval is None and row.verdict == "less"
    assert found.headlines[0] == (
        "agentic: 25 % less energy with batch 8 than with batch 1 "
        "(modelled (model:made-up); one trial, its error not known)"
    )


def test_equal_trials_in_virtual_time_have_no_interval() -> None:
    """Trials that are equal because they are simulated say nothing of spread: no interval and no p, but a verdict."""
    found = compare(pair(one(1, 3), one(8, 3)))
    row = next(row for row in found.rows if row.name == "GPU energy")
    assert (row.interval, row.p, row.pairs, row.deterministic, row.verdict) == (None, None, 3, True, "less")
    assert "3 paired trials, deterministic: no interval" in found.headlines[0]
    assert all(row.interval is None and row.p is None for row in found.rows)
    (total,) = (row for row in compare(pair(one(1), one(8))).rows if row.name == "GPU energy")
    assert (row.a, row.b) == (total.a, total.b)
    varied = compare(pair(one(1, 3, (1.0, 1.01, 0.99)), one(8, 3, (1.0, 1.01, 1.02)))).rows
    assert next(row for row in varied if row.name == "GPU energy").interval is not None


def test_a_chosen_order_is_compared_and_noted() -> None:
    """Unequal orders are refused at equal edge sets, and compared with a note where the edge set was chosen."""
    barrier = [replace(run, certificate=replace(run.certificate, order="x")) for run in one(8)]
    other = [replace(run, certificate=replace(run.certificate, order="y")) for run in one(8)]
    trigger = [replace(run, configuration=replace(run.configuration, edge_set="trigger")) for run in other]
    assert "had to wait for different ones" in refusal(barrier, other)
    assert pair(barrier, one(8)), "a run that says nothing of its order is compared by its work"
    found = compare(pair(barrier, trigger))
    assert any("calls of A wait as barrier edges say, those of B as trigger edges" in note for note in found.notes)
    assert "as much energy with trigger edges as with barrier edges" in found.headlines[0]
    changed = [replace(run, certificate=replace(run.certificate, digest="other")) for run in trigger]
    assert "did different work" in refusal(barrier, changed)


def test_joules_from_client_times_are_not_compared_with_those_from_steps() -> None:
    """Without step records on one side, rows by node and phase are left out and a note says why; totals stay."""
    blind = [replace(run, steps=None) for run in one(8)]
    found = compare(pair(one(1), blind))
    assert not found.of("node") and not found.of("phase")
    assert any(
        "not compared" in note and "those of B attributed from the client's times" in note for note in found.notes
    )
    assert verdict(found, "GPU energy") == "less"
    both = compare(pair(blind, blind))
    assert both.of("node")
    assert any("attributed from the client's times" in note for note in both.notes)


def test_a_poor_fit_is_withheld() -> None:
    """Joules by node that the costs do not explain are kept back with a note; those spread by time are not judged."""
    run = one(8)[0]
    wild = tuple(replace(s, energy_j=(s.energy_j or 0.0) * (1 + 5 * (i % 3))) for i, s in enumerate(run.steps or ()))
    unknown = tuple(replace(s, energy_j=None) for s in wild)
    total = Energy(sum(s.energy_j or 0.0 for s in wild), source=run.energy.source)
    poor, spread = (replace(run, steps=steps, energy=total) for steps in (wild, unknown))
    found = compare(pair(one(1), [poor]))
    assert any("B: poor fit" in note and "--force" in note for note in found.notes)
    assert not found.of("node") and not found.of("phase") and found.of("workload")
    assert compare(pair(one(1), [poor]), force=True).of("node")
    notes = compare(pair([spread], [spread])).notes
    assert not any("poor fit" in note for note in notes)
    assert any("the total spread over them by time" in note for note in notes)


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


@pytest.mark.parametrize("trials", [2, 3, 5])
def test_equal_configurations_are_rarely_called_different(trials: int) -> None:
    """Of 60 tables that compare equal sides, no more call any row less or more than 5 % and three deviations allow."""
    random = np.random.default_rng(7)
    found = 0
    for _ in range(20):
        a, b = (noisy.trials(TRACE, trials, random) for _ in "ab")
        diff = compare(pair(a, b))
        found += sum(any(row.verdict in ("less", "more") for row in diff.of(s)) for s in ("workload", "node", "phase"))
    assert found <= 60 * 0.05 + 3 * (60 * 0.05 * 0.95) ** 0.5


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


def test_the_call_that_differs_is_named() -> None:
    """A refusal says which call's answer was another one."""
    changed = []
    for run in one(8):
        first, *rest = run.calls
        calls = (replace(first, output_digest="another"), *rest)
        changed.append(replace(run, calls=calls, certificate=Certificate("tokens", "other", 1)))
    assert f"first in the answer of {changed[0].calls[0].id}" in refusal(one(1), changed)


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


def test_whatever_value_is_offered_can_be_chosen() -> None:
    """Of options, too, that were not given to some: those have the engine's default."""
    options: tuple[dict[str, Any], ...] = ({}, {"enforce_eager": True}, {"async_scheduling": False, "own": "x"})
    runs = [replace(one(8)[0], configuration=replace(one(8)[0].configuration, options=given)) for given in options]
    offered = dict(words.split(" is ") for words in choices(runs).split("; "))
    assert offered["options.enforce_eager"] == "False, True" and offered["options.own"] == "none, x"
    for name, values in offered.items():
        assert all(select(runs, parse_filters([f"{name}={value}"])) for value in values.split(", "))
    assert len(select(runs, parse_filters(["enforce_eager=false"]))) == 2


def test_an_option_that_no_run_was_given_can_be_chosen_by_its_default() -> None:
    """But of a server that somebody else started nobody knows what it is."""
    (run,) = one(8)
    foreign = replace(run, configuration=replace(run.configuration, engine="http://server"))
    wanted = parse_filters(["disable_custom_all_reduce=false"])
    assert select([run], wanted) == (run,)
    with pytest.raises(RejouleError, match="its values here are False"):
        select([run], parse_filters(["disable_custom_all_reduce=true"]))
    with pytest.raises(RejouleError, match="no run has a knob"):
        select([foreign], wanted)


@pytest.mark.parametrize("value", [0.9234567, 1234567.5, "8", "true", "none", " x", {"a": 1}, [1, 2], 300.0, "fp8"])
def test_a_value_is_offered_as_it_is_read(value: Any) -> None:
    """However it is spelt: a number to its last digit, text that looks like another thing in quotes."""
    runs = [replace(one(8)[0], configuration=replace(one(8)[0].configuration, options=o)) for o in ({"own": value}, {})]
    (offered,) = (words.removeprefix("options.own is ").removesuffix(", none") for words in [choices(runs)])
    assert select(runs, parse_filters([f"options.own={offered}"])) == (runs[0],)


def with_options(options: Mapping[str, Any], policy: Mapping[str, Any] | None = None) -> Run:
    (held,) = one(8)
    configuration = replace(held.configuration, options=options)
    if policy is not None:
        configuration = replace(configuration, policy="las", policy_options=policy)
    return replace(held, configuration=configuration)


@pytest.mark.parametrize("word", ["idle_s=0", "idle-s=0", "--idle-s=0", "options.idle_s=0"])
def test_an_option_is_chosen_by_its_own_name_too(word: str) -> None:
    runs = [with_options({}), with_options({"idle_s": 0}), with_options({"idle_s": 3, "--idle": 1})]
    assert select(runs, parse_filters([word])) == (runs[1],)
    assert select(runs, {word.partition("=")[0]: 0}) == (runs[1],)


@pytest.mark.parametrize("words", [["idle_s=0", "idle_s=3"], ["idle_s=0", "options.idle_s=3"], ["idle_s=0,idle-s=3"]])
def test_two_values_of_one_knob_are_refused(words: list[str]) -> None:
    """However it is called, none of them is dropped without a word."""
    runs = [with_options({"idle_s": 0}), with_options({"idle_s": 3})]
    with pytest.raises(RejouleError, match="idle_s is to be 0 and 3"):
        select(runs, parse_filters(words))


def test_a_name_that_several_options_have_is_refused_with_them() -> None:
    """One of the engine's and one of a policy's; a knob's own name is that knob."""
    runs = [with_options({"weight": 1, "seed": 5}, {"weight": 2})]
    with pytest.raises(
        RejouleError, match=r"'weight' is options\.weight and policy_options\.weight.*options\.weight=…"
    ):
        select(runs, parse_filters(["weight=1"]))
    assert select(runs, parse_filters(["options.weight=1", "policy_options.weight=2", "seed=0"])) == (runs[0],)
    with pytest.raises(RejouleError, match=r"no run has a knob 'wait'.*choose among .*options\.weight"):
        select(runs, parse_filters(["wait=1"]))


def test_filters() -> None:
    """Filters pick by knob or trace; an unknown knob or value is refused with those that exist."""
    runs = builders.grid({"agentic": TRACE}, [1, 8], [None, 300.0])
    assert len(select(runs, parse_filters(["max_num_seqs=8", "power_cap_w=300"]))) == 1
    assert len(select(runs, parse_filters(["power_cap_w=none", "trace=agentic"]))) == 2
    assert parse_filters(["options.x=True,options.y=false"]) == {"options.x": True, "options.y": False}
    joined = ["max_num_seqs=8,power_cap_w=300"]
    for same in (joined, ["max-num-seqs=8", "power-cap=300"], ["--max-num-seqs=8, power_cap_w=300"]):
        assert parse_filters(same) == {"max_num_seqs": 8, "power_cap_w": 300}
    assert parse_filters(["sm-clock=none", "edges=trigger", "options.a-b=x,y"]) == {
        "sm_clock_mhz": None,
        "edge_set": "trigger",
        "options.a-b": "x,y",
    }
    for words, said in ((["max_num_seqs=9"], "1, 8"), (["batch=8"], "max_num_seqs"), (["nonsense"], "KNOB=VALUE")):
        with pytest.raises(RejouleError, match=said):
            select(runs, parse_filters(words))
