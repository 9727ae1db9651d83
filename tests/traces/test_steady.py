"""The time in which a batch was full."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rejoule.traces.run import CallResult, Certificate, Configuration, Energy, PowerCap, Reading, Run, Step
from rejoule.traces.steady import steady


def run(count: int, batch: int, *, passes: int = 1) -> Run:
    """``count`` calls of 10 tokens, ``batch`` at a time, a second each, its first token at once; then as many again."""
    calls, at_s = [], 0.0
    for number in range(1, passes + 1):
        suffix = "" if number == 1 else f"~{number}"
        for i in range(count):
            begin_s = at_s + i // batch + 0.1 * (i % batch) / batch
            calls.append(
                CallResult(f"c{i:03}{suffix}", "w", "n", begin_s, begin_s, begin_s + 1, begin_s, output_tokens=10)
            )
        at_s += count // batch + 2
    return Run(
        id="r",
        trace="t",
        trace_digest="",
        configuration=Configuration(max_num_seqs=batch),
        trial=0,
        makespan_s=at_s,
        calls=tuple(calls),
        workflows=(),
        tools=(),
        energy=Energy(gpu_j=100 * at_s, source={"gpu": "nvml-counter"}),
        power_cap=PowerCap(),
        certificate=Certificate("tokens", "", count),
        readings=tuple(Reading(float(i), i + 1.0, 100.0) for i in range(int(at_s))),
    )


def test_filling_up_and_running_dry_are_left_out() -> None:
    """Power and throughput are those of a full batch: 4 calls of 10 tokens in a second, at 100 W."""
    found = steady(run(400, 4))
    assert found is not None
    assert found.batch == 4
    assert found.duration_s < 100
    assert found.tokens_per_s == pytest.approx(40, rel=0.01)
    assert found.power_w == pytest.approx(100)
    assert found.j_per_token == pytest.approx(2.5, rel=0.01)


def test_edges_are_the_bth_first_token_and_n_less_b_less_1_ends() -> None:
    found = steady(run(20, 4))
    assert found is not None
    ((start_s, end_s),) = found.stretches
    calls = run(20, 4).calls
    assert start_s == sorted(c.first_token_s or 0 for c in calls)[3]
    assert sum(c.end_s <= end_s for c in calls) == 20 - 4 - 1


def test_each_pass_fills_the_batch_anew() -> None:
    one, two = steady(run(40, 4)), steady(run(40, 4, passes=2))
    assert one is not None and two is not None
    assert len(two.stretches) == 2
    assert two.duration_s == pytest.approx(2 * one.duration_s)
    assert two.output_tokens == pytest.approx(2 * one.output_tokens)


def test_what_never_got_there_has_no_figures() -> None:
    assert steady(run(8, 4)) is None
    calls = tuple(replace(c, first_token_s=None) for c in run(400, 4).calls)
    assert steady(replace(run(400, 4), calls=calls)) is None


def test_energy_is_missing_where_only_the_total_is_known() -> None:
    """Steps with joules stand in for readings; steps without do not."""
    bare = replace(run(40, 4), readings=None)
    steps = tuple(Step(float(i), i + 1.0, 1, 50.0) for i in range(12))
    assert steady(bare) is not None and steady(bare).energy_j is None  # type: ignore[union-attr]
    assert steady(replace(bare, steps=steps)).power_w == pytest.approx(50)  # type: ignore[union-attr]
    assert steady(replace(bare, steps=(*steps, Step(12, 13, 1, None)))).energy_j is None  # type: ignore[union-attr]


def test_an_engine_with_room_is_full_with_all_calls_in_flight() -> None:
    found = steady(replace(run(40, 4), configuration=Configuration(), engine={"max_num_seqs": 256}))
    assert found is not None and found.batch in (4, 5)
