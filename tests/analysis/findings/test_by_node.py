"""Which nodes carry a finding, on runs of which it is known."""

from __future__ import annotations

from dataclasses import replace
from math import fsum
from typing import Any

import pytest
from benchmarks.causes.loads import Shape, trace_of
from benchmarks.causes.planted import OPTIONS, run_of
from benchmarks.judge.loads import AGENT, CHAT, SUMMARY, TOGETHER, Load, alone
from benchmarks.judge.made import recorded, served
from tests.analysis.findings.made import along, asked, folder

from rejoule.analysis.findings.answer import answers, as_json, of_nodes
from rejoule.analysis.findings.finding import shipped
from rejoule.analysis.findings.reading import Answer
from rejoule.traces.run import Configuration, Run

ENDS = {"test": "ends", "knob": "max_num_seqs", "from": 1, "to": 8, "expect": "more", "work": "any"}
SHAPE = Shape(workflows=4, apart_ms=30.0, shared=1000, tool_ms=200.0)


def measured(load: Load, batch: int, trials: int = 3) -> list[Run]:
    """Trials as a recorder would have them, said to be of a batch size."""
    runs = [recorded(load, served(load, 5, trial), 5, trial) for trial in range(trials)]
    configuration = replace(runs[0].configuration, max_num_seqs=batch)
    return [replace(run, configuration=configuration, trial=i, trace="made") for i, run in enumerate(runs)]


def simulated() -> list[Run]:
    trace = trace_of(SHAPE, 1)
    knobs = [(batch, scale) for batch in (1, 8) for scale in (1.0, 2.0, 4.0)]
    return [
        replace(run_of(trace, Configuration(max_num_seqs=batch, output_scale=scale, options=OPTIONS)), trace="made")
        for batch, scale in knobs
    ]


def test_the_node_that_does_more_is_named_with_its_share() -> None:
    """On measured runs with noise the node whose answers are longer carries the change; others do not."""
    plain = (CHAT, SUMMARY, AGENT)
    longer = (replace(CHAT, output=3 * CHAT.output), SUMMARY, AGENT)
    runs = measured(Load("a", alone(*plain), 2.0), 1) + measured(Load("b", alone(*longer), 2.0), 8)
    found = asked(runs, **ENDS)
    assert found.verdict == "holds"
    (made,) = found.carried
    assert made.carry[0].node == "chat" and made.sentence().startswith("chat +")
    assert made.carry[0].share_least is not None and made.carry[0].share_least > 0.7
    assert {one.node for one in made.carry if one.worth_a_word}.isdisjoint({"summary", "agent"})


def test_nodes_that_cannot_be_told_apart_are_told_together() -> None:
    """Two nodes that always run beside each other: neither is said to carry it, their sum may."""
    load = Load("together", TOGETHER, 0.6)
    runs = measured(load, 1) + measured(replace(load, rate=1.2), 8)
    (made,) = asked(runs, **ENDS).carried
    carry = {one.node for one in (*made.carry, *made.against)}
    assert carry.isdisjoint({"short", "long"}) and {"short", "long"} <= set(made.cannot_tell)
    assert any("always worked beside" in reason for reason in made.reasons)


def test_joules_that_are_not_known_by_node_leave_a_reason() -> None:
    """From the client's times alone nothing is said to carry anything, and why stands beside it."""
    found = asked(along("max_num_seqs", {1: 500.0, 8: 1000.0}), **ENDS)
    (made,) = found.carried
    assert found.verdict == "holds" and not made.carry and made.reasons
    assert any("no ±" in note for note in of_nodes([found]))


def test_nodes_add_up_to_the_whole() -> None:
    """Of every comparison of a model's runs, with what no call owes."""
    for reading in asked(simulated(), **ENDS).readings:
        for each in reading.by_node:
            assert each.delta == pytest.approx(fsum(node.delta for node in each.nodes), rel=1e-6)


LONGER = {"test": "ends", "knob": "output_scale", "from": 1.0, "to": 4.0, "expect": "more", "work": "any"}


def lengths(p95: float, found_on: str | None, *names: str) -> list[Run]:
    """Runs of one batch, whose profile tells such an error of differences in output scale."""
    metrics = {name: {"median": p95, "p95": p95} for name in names}
    error = {"knobs": ["output_scale"], "differences": 9, "metrics": metrics, "found_on": found_on}
    runs = [run for run in simulated() if run.configuration.max_num_seqs == 8]
    return [replace(run, engine={**run.engine, "profile": "p", "expected_error": error}) for run in runs]


@pytest.mark.parametrize(("found_on", "known"), [(None, True), ("another GPU", False)])
def test_an_example_of_an_error_is_no_known_error_of_nodes(found_on: str | None, known: bool) -> None:
    """What another GPU's profile was off by leaves joules by node the model's word, as it leaves the whole."""
    found = asked(lengths(0.02, found_on, "GPU energy", "joules by node", "idle", "tool wait"), **LONGER)
    (made,) = found.carried
    assert found.readings[0].error_known is made.error_known is known
    assert made.sentence().endswith("(in the model)") is not known


@pytest.mark.parametrize(("p95", "told"), [(99.0, False), (0.01, True)])
def test_nodes_do_not_carry_what_cannot_be_told(p95: float, told: bool) -> None:
    """Time in calls by node is the model's word: it decides nothing where the makespan's known error leaves it open."""
    found = asked(lengths(p95, None, "makespan"), **LONGER, metric="makespan")
    (made,) = found.carried
    nodes = [node for each in found.readings[0].by_node for node in each.nodes]
    assert (found.verdict != "cannot tell") is bool(made.carry) is any(node.carries for node in nodes) is told
    assert made.carry or (made.cannot_tell and not made.against and not any(node.share for node in nodes))


KNOB = {"knob": "max_num_seqs", "by_least": 0.0}
KINDS: dict[str, dict[str, Any]] = {
    "ends": ENDS,
    "interaction": {
        **ENDS,
        "where": {"knobs": {"output_scale": 4.0}},
        "than": {"knobs": {"output_scale": 1.0}},
    },
    "linear": {"knob": "output_scale", "work": "any"},
    "optimum": {**KNOB, "sessions": [0.1, 9.0], "metric": "makespan"},
    "disagreement": {
        **KNOB,
        "metric": "tokens a second a user",
        "expect": "more",
        "other_metric": "makespan",
        "other_expect": "less",
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_finding_asks_its_nodes_are_told(kind: str) -> None:
    """By joules, or by the time in calls where the metric is one of time."""
    found = asked(simulated(), **KINDS[kind] | {"test": kind})
    assert found.carried, found
    time = kind in ("optimum", "disagreement")
    assert {each.quantity for each in found.carried} == {"time in calls" if time else "joules"}


def test_machines_have_the_nodes_of_every_comparison() -> None:
    """``--json`` has them under each reading, and by workload with the sentence."""
    found: tuple[Answer, ...] = answers([folder(simulated())], shipped())
    body = as_json(found, [])["findings"]
    told = [each for each in body if each["carried"]]
    assert told and all(each["carried"][0]["sentence"] for each in told)
    nodes = [
        node for each in told for reading in each["readings"] for one in reading["by_node"] for node in one["nodes"]
    ]
    assert nodes and all({"node", "a", "b", "share", "verdict", "reason"} <= set(node) for node in nodes)
