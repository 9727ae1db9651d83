"""When outputs are out while host and GPU work at the same time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.sim.pipeline import span_s

times = st.tuples(st.floats(1e-4, 0.5), st.floats(1e-4, 0.1))


def test_decode_steps_take_what_the_slower_of_host_and_gpu_needs() -> None:
    assert span_s([(0.005, 0.002)] * 10, None, 0.002) == pytest.approx(0.050)
    assert span_s([(0.005, 0.008)] * 10, None, 0.008) == pytest.approx(0.080)


def test_launching_a_prompt_hides_behind_the_step_before_it() -> None:
    """A decode step of 5 ms and a prompt of 11 ms that takes the host 9 ms last 16 ms; if it takes 20 ms, 22."""
    assert span_s([(0.005, 0.002), (0.011, 0.009)], None, 0.002) == pytest.approx(0.016)
    assert span_s([(0.005, 0.002), (0.011, 0.020)], None, 0.002) == pytest.approx(0.022)


def test_nothing_hides_the_launch_of_a_step_after_a_pause() -> None:
    """With 12 ms of launching, a prompt of 10 ms and then one more are out after both were launched."""
    assert span_s([(0.010, 0.012)], 0.001, 0.0) == pytest.approx(0.013)
    assert span_s([(0.010, 0.012), (0.010, 0.012)], 0.001, 0.002) == pytest.approx(0.027)


def test_the_last_kernels_come_after_the_launch() -> None:
    assert span_s([(0.005, 0.002), (0.001, 0.020)], None, 0.0, 0.0015) == pytest.approx(0.0215)


@given(st.lists(times, min_size=1, max_size=8), st.none() | st.floats(0, 0.01))
def test_neither_host_nor_gpu_is_faster_than_its_own_work(
    steps: list[tuple[float, float]], first: float | None
) -> None:
    total = span_s(steps, first, 0.001)
    launched = [h for _, h in (steps if first is not None else steps[1:])]
    assert total >= sum(g for g, _ in steps) - 1e-9
    assert total >= sum(launched) - 1e-9
    assert total <= (first or 0) + sum(g + h for g, h in steps) + 0.001 + 1e-9
