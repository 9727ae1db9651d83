"""When requests come out of the API server, and when clients have their answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rejoule.replay.sim.api import CROWD, Answers, Arrivals
from rejoule.replay.sim.jobs import Job, SimRequest
from rejoule.replay.sim.shipped import load_profile

ALONE_S = 0.004


def job(number: int) -> Job:
    return Job(SimRequest(f"r{number}", [1], 1), 0.0, number)


def sent(times: list[float], crowd_s: float = 0.001) -> Arrivals:
    arrivals = Arrivals(crowd_s)
    for number, sent_s in enumerate(times):
        arrivals.send(job(number), sent_s, sent_s + ALONE_S)
    return arrivals


def outs(arrivals: Arrivals) -> list[float]:
    found: dict[int, float] = {}
    while (at_s := arrivals.out_s) is not None:
        found |= {each.number: at_s for each in arrivals.take(at_s)}
    assert list(found) == sorted(found)
    return list(found.values())


def test_one_request_is_not_held_up() -> None:
    assert outs(sent([0.5, 1.0])) == [0.504, 1.004]


def test_all_that_are_underway_are_read_before_the_first_comes_out_and_then_they_come_one_by_one() -> None:
    assert outs(sent([0.5] * 5)) == pytest.approx([0.508, 0.509, 0.510, 0.511, 0.512])


def test_what_is_sent_while_others_are_read_is_read_with_them() -> None:
    """The second is sent before the first is out, the third after both have been read."""
    assert outs(sent([0.5, 0.503, 0.51])) == pytest.approx([0.505, 0.507, 0.514])


def test_a_great_crowd_comes_in_parts() -> None:
    found = outs(sent([0.0] * (CROWD + 2)))
    last_s = ALONE_S + 0.001 * 2 * (CROWD - 1)
    assert [found[0], found[CROWD - 1], found[CROWD]] == pytest.approx(
        [ALONE_S + 0.001 * (CROWD - 1), last_s, last_s + 0.002]
    )


@pytest.mark.parametrize("read", [False, True])
def test_one_that_is_dropped_holds_nobody_up(read: bool) -> None:
    """Also one that has been read, but does not come out yet."""
    arrivals, late = Arrivals(0.001), job(1)
    arrivals.send(job(0), 0.5, 0.5)
    arrivals.send(late, 0.5, 0.5)
    if read:
        assert [each.number for each in arrivals.take(0.501)] == [0]
    assert arrivals.drop(late) and not arrivals.drop(late)
    assert outs(arrivals) == ([] if read else [0.5])


@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0, 0.01))
def test_all_come_out_in_order_and_none_early(times: list[float], crowd_s: float) -> None:
    """Nor later than if each waited twice for every other."""
    times = sorted(times)
    found = outs(sent(times, crowd_s))
    assert found == sorted(found)
    for sent_s, out_s in zip(times, found, strict=True):
        assert sent_s + ALONE_S <= out_s <= times[-1] + ALONE_S + 2 * crowd_s * len(times) + 1e-9


def test_answers_wait_for_the_outputs_of_their_step_and_for_prompts_that_are_sent_back() -> None:
    timing = replace(
        load_profile("h200-data-sheet-llama-3.1-8b").timing,
        api_answer_s=0.001,
        api_per_output_s=0.0001,
        api_per_echoed_token_s=1e-6,
    )
    answers = Answers(timing)
    assert answers.put(1.0, 1, 0) == pytest.approx(1.0011)
    assert answers.put(2.0, 10, 5000) == pytest.approx(2.0 + 0.001 + 0.001 + 0.005)


def test_no_answer_overtakes_one_of_a_step_before() -> None:
    answers = Answers(replace(load_profile("h200-data-sheet-llama-3.1-8b").timing, api_per_echoed_token_s=1e-6))
    first_s = answers.put(1.0, 1, 8000)
    assert answers.put(1.005, 1, 0) == first_s
