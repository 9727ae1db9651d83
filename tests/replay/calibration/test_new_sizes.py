"""What is told of launches of new sizes is what was put in."""

from __future__ import annotations

import pytest
from benchmarks.new_sizes import Beyond, Launch, Size, beyond, computed_s, told_ms


def launch(host_s: float, run: str = "a", step_s: float = 0.01) -> Launch:
    return Launch(host_s, step_s, False, run)


def test_a_launch_is_held_against_later_ones_of_its_size() -> None:
    """What came once is held against nothing, and an unknown launch is none."""
    found = [Size("s", [launch(0.030), launch(0.024), launch(0.022)]), Size("s", [launch(1.0)])]
    found.append(Size("s", [None, launch(0.025), None, launch(0.020)]))
    assert [each.beyond_s for _, each in beyond(found, 0)] == pytest.approx([0.007])
    assert [each.beyond_s for _, each in beyond(found, 1)] == pytest.approx([0.002, 0.005])


def test_later_launches_are_those_of_the_same_run_where_that_is_asked() -> None:
    found = [
        Size("s", [launch(0.030), launch(0.024, "b"), launch(0.026)]),
        Size("s", [launch(0.03), launch(0.02, "b")]),
    ]
    assert [each.beyond_s for _, each in beyond(found, 0, same=True)] == pytest.approx([0.004])


def test_the_step_is_held_against_later_ones_as_its_launch_is() -> None:
    found = [Size("s", [launch(0.03, step_s=0.012), launch(0.02, step_s=0.010)])]
    assert [each.beyond_s for _, each in beyond(found, 0, computed_s)] == pytest.approx([0.002])


def test_launches_of_one_server_say_less_than_as_many_of_several() -> None:
    """Three servers that differ by 2 ms and are sure of it; of one server, single launches scatter."""
    servers = [Beyond(name, s) for name, s in (("a", 0.001), ("b", 0.003), ("c", 0.005)) for _ in range(2)]
    assert told_ms(servers) == "+3.0 ± 0.9 (6)"
    assert told_ms([each._replace(server="a") for each in servers]) == "+3.0 ± 0.7 (6)"
    assert told_ms(servers[:1]) == "–"
