"""Replay through a Parrot server: a stand-in of its HTTP interface, well behaved and not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.replay.engines.parrot_stand_in import StandIn, served

from rejoule.replay.embedded.server import ServerThread
from rejoule.replay.engines import parrot
from rejoule.replay.engines.open import check_engine, open_engine
from rejoule.replay.engines.parrot_calls import changed, template
from rejoule.replay.engines.parrot_client import ParrotClient, submitting_s
from rejoule.replay.engines.wire import Wire
from rejoule.replay.remarks import between_runs
from rejoule.replay.replay import replay
from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces import RejouleError, Trace
from rejoule.traces.model import Call, ToolCall
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun
from rejoule.traces.store import trace_digest
from rejoule.traces.testing import made_call, made_tool, made_trace, made_workflow, random_trace

MS = 1_000_000


async def replayed(trace: Trace, engine: str, **knobs: Any) -> Run:
    plan = PlannedRun("r", "t", Configuration(engine=engine, **knobs), 0)
    return await replay(trace, plan, trace_digest(trace), open_engine)


def quoting() -> Trace:
    """Two drafts, a review that quotes both whole, a tool, and a call after it that quotes the review."""
    both = "Compare: an answer of left\nand: an answer of right\nwhich {{is}} better?"
    vertices: list[Call | ToolCall] = [
        made_call("w0000", "left", 0, 10, prompt="{{answer}} left", output_tokens=3),
        made_call("w0000", "right", 0, 20, prompt="Write right", output_tokens=5),
        made_call("w0000", "review", 25, 40, prompt=both, output_tokens=4),
        made_tool("w0000", "search", 41, 51),
        made_call("w0000", "last", 60, 70, prompt="So: an answer of review", output_tokens=2),
    ]
    edges = [("left", "review"), ("right", "review"), ("review", "search"), ("search", "last")]
    return made_trace([made_workflow(vertices, {"barrier": edges})])


async def test_every_call_in_order_with_its_length() -> None:
    """Every call is asked for once, after what it waits for, with the recorded prompt and as many tokens."""
    trace, stand_in = random_trace(4, workflows=5), StandIn()
    async with served(stand_in) as engine:
        run = await replayed(trace, engine, time_scale=0.1)
    seen = stand_in.replayed
    assert sorted(seen) == sorted(call.id for call in trace.calls)
    assert all(seen[call.id].max_gen_length == call.output_tokens for call in trace.calls)
    assert all(seen[call.id].prompt == call.request["messages"][0]["content"] for call in trace.calls)
    for workflow in trace.workflows:
        for target, sources in workflow.predecessors("barrier").items():
            ends = [seen[s].ended_s for s in sources if s in seen]
            assert target not in seen or seen[target].began_s >= max(ends, default=0.0)
    assert not run.failed_calls
    assert stand_in.sessions == set()


async def test_what_parrot_does_not_tell_is_none_and_said() -> None:
    """Counts, first tokens and lengths are unknown, the tier is none, and a reader is told."""
    async with served(StandIn()) as engine:
        run = await replayed(quoting(), engine)
    assert run.certificate.tier == "none" and run.certificate.exact_calls == 0
    assert not run.certificate.violations
    assert {(c.prompt_tokens, c.output_tokens, c.first_token_s, c.finish_reason) for c in run.calls} == {(None,) * 4}
    assert run.engine["parrot"]["scheduler_flags"] is None
    notes = " ".join(between_runs([run]))
    assert "no token counts" in notes and "scheduler flags" in notes and "0 of 4 calls" in notes


async def test_calls_that_wait_for_answers_alone_go_ahead() -> None:
    """What waits only for answers that it quotes is submitted with them; what follows a tool, when it is due."""
    stand_in, trace = StandIn(), quoting()
    async with served(stand_in) as engine:
        run = await replayed(trace, engine, options={"ahead_gap_s": 0.1})
    seen, calls = stand_in.replayed, {c.id.partition("/")[2]: c for c in run.calls}
    assert len(seen["w0000/review"].sources) == 2 and "output_criteria" in seen["w0000/review"].body
    assert seen["w0000/last"].sources == ()
    written = [" ".join(["word"] * n) for n in (3, 5)]
    assert seen["w0000/review"].prompt == f"Compare: {written[0]}\nand: {written[1]}\nwhich {{{{is}}}} better?"
    assert run.engine["parrot"]["submitted_ahead"] == 1
    assert calls["review"].due_s <= calls["review"].sent_s <= calls["review"].end_s
    assert calls["review"].sent_s >= calls["left"].end_s
    assert calls["last"].sent_s >= calls["review"].end_s + 0.018
    assert any("quoting this run's answers" in reason for reason in calls["review"].altered)


async def test_joules_of_what_answers_behind_it() -> None:
    """With the server behind Parrot named, its meter is read, and its model is the run's."""
    config = EngineConfig(load_profile("h200-llama-3.1-8b"))
    with ServerThread(config, "m", time_scale=20) as behind:
        async with served(StandIn()) as engine:
            run = await replayed(quoting(), engine, options={"behind": behind})
    assert run.energy.gpu_j is not None and str(run.energy.source["gpu"]).startswith("model:")
    assert run.engine["id"] == "m"


async def test_nothing_behind_it() -> None:
    """A server that is said to be behind Parrot and is not ends the replay in one line."""
    async with served(StandIn()) as engine:
        with pytest.raises(RejouleError, match="cannot reach a server at"):
            await replayed(quoting(), engine, options={"behind": "http://127.0.0.1:1"})


async def test_answers_of_calls_that_began_apart() -> None:
    """A call that quotes two answers is submitted once the later of their calls is."""
    trace = quoting()
    calls = tuple(
        replace(c, submit_ns=c.submit_ns + 60 * MS, end_ns=c.end_ns + 60 * MS) if not c.id.endswith("left") else c
        for c in trace.workflows[0].calls
    )
    stand_in = StandIn()
    async with served(stand_in) as engine:
        later = replace(trace, workflows=(replace(trace.workflows[0], calls=calls),))
        run = await replayed(later, engine, options={"ahead_gap_s": 0.1})
    assert run.engine["parrot"]["submitted_ahead"] == 1 and not run.failed_calls
    assert len(stand_in.replayed["w0000/review"].sources) == 2


@pytest.mark.parametrize(("knobs", "ahead"), [({}, 0), ({"time_scale": 0.0}, 1), ({"concurrency": 2}, 0)])
async def test_the_clients_own_time_is_kept(knobs: dict[str, Any], ahead: int) -> None:
    """A recorded gap keeps a call from going ahead, and so does a limit on what is in flight."""
    stand_in = StandIn()
    async with served(stand_in) as engine:
        run = await replayed(quoting(), engine, **knobs)
    assert run.engine["parrot"]["submitted_ahead"] == ahead
    assert sum(bool(call.sources) for call in stand_in.replayed.values()) == ahead
    assert len(run.calls) == 4 and not run.failed_calls


def test_a_system_prompt_is_constant_text() -> None:
    """By its beginning Parrot sees that calls are alike; nothing in a prompt is taken for one of its places."""
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{{answer}}?"}]
    made = template({"messages": chat, "max_tokens": 7, "temperature": 0}, {})
    assert made.text == "Be brief.\n\n{{piece0}}{{answer}}"
    assert made.values == {"piece0": "{{answer}}?"}
    assert made.sampling == {"temperature": 0, "max_gen_length": 7}
    odd = template({"messages": [{"role": "system", "content": "{{a}}"}, *chat[1:]], "max_tokens": 7}, {})
    assert odd.text == "{{piece0}}{{answer}}" and odd.values == {"piece0": "{{a}}\n\n{{answer}}?"}


def test_what_is_left_out_of_a_prompt_is_named() -> None:
    """Roles, tools, images and calls of tools do not reach Parrot, and the call says so."""
    call = made_call("w0000", "a", 0, 10)
    image = {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {}}]}
    asked = {**call.request, "messages": [{"role": "assistant", "tool_calls": [{}]}, image], "tools": [{}], "seed": 1}
    found = changed(replace(call, request=asked), quotes=False)
    assert found[1:] == (
        "its messages as one text", "without what of its messages is no text", "without its tools, seed",
    )  # fmt: skip
    assert len(changed(call, quotes=False)) == 1


async def test_a_call_that_parrots_engine_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parrot never answers a call that failed, and gives its session up: the call fails, and the run ends."""
    monkeypatch.setattr(parrot, "PROBE_S", 0.05)
    stand_in = StandIn()
    stand_in.loses = "w0000/review"
    async with served(stand_in) as engine:
        run = await asyncio.wait_for(replayed(quoting(), engine), 10)
    (failed,) = run.failed_calls
    assert failed.id == "w0000/review" and "Parrot gave the call up" in str(failed.error)
    assert "w0000/last was not sent" in run.certificate.violations


async def test_a_server_that_hangs() -> None:
    """A call of which nothing comes ends after the time that was given for it."""
    stand_in = StandIn()
    stand_in.hangs = True
    async with served(stand_in) as engine:
        run = await replayed(quoting(), engine, options={"call_timeout_s": 0.2})
    assert run.failed_calls and all("stalled" in str(call.error) for call in run.failed_calls)


async def test_a_server_that_dies() -> None:
    """The replay ends in one line once the server is gone."""
    stand_in = StandIn()
    stand_in.hangs = True
    async with served(stand_in) as engine:
        running = asyncio.create_task(replayed(quoting(), engine))
        while not stand_in.replayed:
            await asyncio.sleep(0.01)
    with pytest.raises(RejouleError, match="stopped answering"):
        await asyncio.wait_for(running, 20)


async def test_a_server_that_refuses() -> None:
    """A server that takes no call is told from one that is not there, each in one line, before anything starts."""
    stand_in = StandIn()
    stand_in.refuses = "Task queue is full."
    async with served(stand_in) as engine:
        with pytest.raises(RejouleError, match=r"takes no call as Parrot does.*Task queue is full"):
            await replayed(quoting(), engine)
    with pytest.raises(RejouleError, match="cannot reach a Parrot server"):
        await replayed(quoting(), engine)


async def test_a_simulated_network_is_refused() -> None:
    """A server that adds a network's latency to each call is not measured."""
    stand_in = StandIn()
    stand_in.network_s = 0.03
    async with served(stand_in) as engine:
        with pytest.raises(RejouleError, match=r"simulates a network.*SIMULATE_NETWORK_LATENCY_PRT=0"):
            await replayed(quoting(), engine)


async def test_a_server_without_an_engine() -> None:
    """A server that takes calls and answers none is refused in one line, with what to start."""
    stand_in = StandIn()
    stand_in.loses = "none"
    async with served(stand_in) as engine:
        wire = Wire(engine.removeprefix("parrot:"))
        with pytest.raises(RejouleError, match=r"did not answer a call of one token.*api_endpoint chat"):
            await submitting_s(ParrotClient(wire), engine, limit_s=0.2)
        await wire.close()


@pytest.mark.parametrize(
    ("engine", "knobs", "said"),
    [
        ("parrot:", {}, "names no Parrot server"),
        ("parrot:localhost:9000", {}, "names no Parrot server"),
        ("parrot:http://u:p@localhost:9000", {}, "holds more than its address"),
        ("parrot:http://localhost:9000", {"max_num_seqs": 4}, "--max-num-seqs cannot be set"),
        ("parrot:http://localhost:9000", {"profile": "x"}, "--profile cannot be set"),
        ("parrot:http://localhost:9000", {"loops": 2}, "--loops"),
        ("parrot:http://localhost:9000", {"options": {"salt": "prompt"}}, "salt cannot be set"),
        ("parrot:http://localhost:9000", {"options": {"priority": True}}, "priority cannot be set"),
        ("parrot:http://localhost:9000", {"options": {"tier": "tokens"}}, "tier cannot be set"),
        ("parrot:http://localhost:9000", {"options": {"ahead_gap_s": -1}}, "ahead_gap_s=-1 is no time"),
        ("parrot:http://localhost:9000", {"options": {"ahead_gap_s": float("nan")}}, "ahead_gap_s=nan is no time"),
        ("parrot:http://localhost:9000", {"options": {"behind": "vllm"}}, "is unknown"),
        ("parrot:http://localhost:9000", {"options": {"call_timeout_s": 0}}, "is no timeout"),
        ("parrot:http://far.example:9000", {"power_cap_w": 300.0}, "power"),
    ],
)
def test_what_it_cannot_be_asked(engine: str, knobs: dict[str, Any], said: str) -> None:
    """What a Parrot server cannot be set to is refused before anything starts."""
    with pytest.raises(RejouleError, match=said):
        check_engine(Configuration(engine=engine, **knobs))


async def test_prompts_without_text_are_refused() -> None:
    """A trace that holds token ids alone cannot be given to Parrot."""
    call = made_call("w0000", "a", 0, 10, prompt="")
    with pytest.raises(RejouleError, match="takes prompts as text, and w0000/a has none"):
        await replayed(made_trace([made_workflow([call], {})]), "parrot:http://127.0.0.1:1")
