"""When requests come out of the API server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.sim.api import CROWD, ApiServer
from rejoule.replay.sim.jobs import Job, SimRequest


def job(number: int) -> Job:
    return Job(SimRequest(f"r{number}", [1], 1), 0.0, number)


def sent(times: list[float], crowd_s: float = 0.001) -> ApiServer:
    server = ApiServer(crowd_s)
    for number, alone_s in enumerate(times):
        server.send(job(number), alone_s)
    return server


def outs(server: ApiServer) -> dict[int, float]:
    found: dict[int, float] = {}
    while (at_s := server.out_s) is not None:
        found |= {each.number: at_s for each in server.take(at_s)}
    return found


def test_one_request_is_not_held_up() -> None:
    assert outs(sent([0.5, 1.0])) == {0: 0.5, 1: 1.0}


def test_those_that_are_underway_together_come_out_together_and_later() -> None:
    assert outs(sent([0.5] * 5)) == dict.fromkeys(range(5), pytest.approx(0.504))
    assert outs(sent([0.5, 0.5, 0.502])) == {0: pytest.approx(0.501), 1: pytest.approx(0.501), 2: 0.502}


def test_a_great_crowd_comes_in_parts() -> None:
    found = outs(sent([0.0] * (CROWD + 2)))
    assert [found[0], found[CROWD]] == [pytest.approx(0.001 * (CROWD - 1)), pytest.approx(0.001 * (CROWD + 1))]


def test_one_that_is_dropped_holds_nobody_up() -> None:
    server, late = ApiServer(0.001), job(1)
    server.send(job(0), 0.5)
    server.send(late, 0.5)
    assert server.drop(late) and not server.drop(late)
    assert outs(server) == {0: 0.5}


@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0, 0.01))
def test_all_come_out_in_order_and_none_early(times: list[float], crowd_s: float) -> None:
    """Nor later than if the server worked on one after the other."""
    times = sorted(times)
    found = outs(sent(times, crowd_s))
    assert list(found) == sorted(found) == list(range(len(times)))
    free_s = 0.0
    for number, alone_s in enumerate(times):
        assert alone_s <= found[number]
        free_s = max(alone_s, free_s) + crowd_s * CROWD
        assert found[number] <= free_s + 1e-9
