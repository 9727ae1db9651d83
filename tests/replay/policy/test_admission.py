"""ThunderAgent's rule, by hand: a cache of 1000 tokens, and 100 for each program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from tests.replay.policy.made import chain, gated
from tests.replay.policy.test_policies import call, view

from rejoule.replay.policy.interface import Capacity, Done, Flight, Pending, Policy, View
from rejoule.replay.policy.registry import open_policy
from rejoule.traces import RejouleError


def pending(workflow: str, tokens: int) -> Pending:
    return replace(call(f"{workflow}/{tokens}", workflow), prompt_tokens=tokens)


def ended(workflow: str, tokens: int) -> Done:
    """A program's call of so many tokens, of which 10 are its answer."""
    return Done(pending(workflow, tokens - 10), 0.0, 0.5, 10)


def seen(
    now_s: float,
    calls: Sequence[Pending],
    done: Sequence[Done] = (),
    flights: Sequence[Pending] = (),
    over: Sequence[str] = (),
) -> View:
    in_flight: Mapping[str, Flight] = {c.id: Flight(c, 0.0, 0) for c in flights}
    found = view((*calls, *flights), now_s=now_s, done=done, in_flight=in_flight, capacity=Capacity(None, 1000))
    programs = {name: replace(p, over=name in over) for name, p in found.programs.items()}
    return replace(found, pending=tuple(calls), programs=programs)


def sent(policy: Policy, at: View) -> list[str]:
    return [send.call.partition("/")[0] for send in policy.decide(at).send]


def test_programs_are_let_in_as_long_as_they_fit() -> None:
    """Two of 300 tokens fill 800 of 1000; the third waits for the next look, although a smaller one would fit."""
    policy = open_policy("admission", {})
    first = [pending(name, 300) for name in ("a", "b", "c")]
    assert sent(policy, seen(0.0, first)) == ["a", "b"]
    small = [first[2], pending("d", 50)]
    busy = [first[0], first[1]]
    assert sent(policy, seen(1.0, small, flights=busy)) == []
    assert policy.decide(seen(1.0, small, flights=busy)).ask_again_s == 5.0
    # 5 s: 200 are left, and the smallest that waits goes first.
    assert sent(policy, seen(5.0, small, flights=busy)) == ["d"]


def test_what_ends_makes_room_at_the_next_look() -> None:
    """A program that is over no longer counts."""
    policy = open_policy("admission", {})
    first = [pending(name, 300) for name in ("a", "b", "c")]
    sent(policy, seen(0.0, first))
    done = [ended("a", 310)]
    assert sent(policy, seen(2.0, [first[2]], done, [first[1]], over=["a"])) == []
    assert sent(policy, seen(5.0, [first[2]], done, [first[1]], over=["a"])) == ["c"]


def test_those_in_tools_are_paused_first_and_the_smallest_of_them() -> None:
    """Grown to 1700 of 1000, two in tools are put out; a paused one's next call is held, while others go on."""
    policy = open_policy("admission", {})
    first = [pending(name, 100) for name in ("a", "b", "c", "d")]
    assert sent(policy, seen(0.0, first)) == ["a", "b", "c", "d"]
    done = [ended("a", 300), ended("b", 200)]
    working = [pending("c", 400), pending("d", 400)]
    assert sent(policy, seen(5.0, [pending("e", 10)], done, working)) == []
    # Inside are c and d, which fill 1000.
    assert sent(policy, seen(6.0, [pending("a", 310), pending("c", 410)], done, working[1:])) == ["c"]


def test_those_that_were_at_work_come_back_first() -> None:
    """With a call pending, then new, then in a tool; within each the smallest first."""
    policy = open_policy("admission", {})
    sent(policy, seen(0.0, [pending("big", 900)]))
    waiting = [pending("new", 200), pending("back", 250), pending("more", 300)]
    done = [ended("back", 240), ended("more", 290)]
    assert sent(policy, seen(1.0, waiting, done, [pending("big", 900)])) == []
    done.append(ended("big", 910))
    assert sent(policy, seen(5.0, waiting, done, over=["big"])) == ["back", "more"]  # 350 + 400; 300 more do not fit


def test_one_is_let_in_however_large() -> None:
    """A program beyond the cache runs alone."""
    policy = open_policy("admission", {})
    assert sent(policy, seen(0.0, [pending("huge", 5000), pending("vast", 6000)])) == ["huge"]


def test_an_engine_that_does_not_say_its_size_needs_the_option() -> None:
    """The refusal names the option; with it, the policy works."""
    flows = [chain("w0", 5)]
    told = r"the policy admission: the engine does not say .*; give --policy-option kv_tokens=NUMBER"
    with pytest.raises(RejouleError, match=told):
        gated(flows, "admission").due(0.0)
    assert gated(flows, "admission", options={"kv_tokens": 500}).due(0.0)


def test_prompts_that_nobody_counted_are_refused() -> None:
    """What a program needs cannot be told then."""
    with pytest.raises(RejouleError, match="nobody counted the tokens of the prompt of a"):
        open_policy("admission", {}).decide(seen(0.0, [replace(pending("a", 5), id="a", prompt_tokens=None)]))
