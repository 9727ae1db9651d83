"""Servers that keep a prefix cache and cannot be told to forget it, as SGLang and llama.cpp: a real one over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import orjson
import pytest
from aiohttp import web

import rejoule
from rejoule.analysis.energy import spent
from rejoule.analysis.pairing import pair
from rejoule.replay.remarks import between_runs
from rejoule.traces import RejouleError, Trace
from rejoule.traces.loops import pass_of
from rejoule.traces.run import Configuration, Run
from rejoule.traces.testing import made_call, made_trace, made_workflow
from rejoule.traces.warmth import WARM, coldest, is_warm, warmth_notes

WORDS = 400
BLOCK = 16


def trace() -> Trace:
    """Two calls that begin alike, and one that begins with the whole of the second and its answer."""
    system = {"role": "system", "content": "rule " * WORDS}
    asked = [system, {"role": "user", "content": "first"}]
    further = [system, {"role": "user", "content": "second"}]
    more = [*further, {"role": "assistant", "content": "word " * 20}, {"role": "user", "content": "and now?"}]
    prompts = {"a": asked, "b": further, "c": more}
    calls = [
        replace(
            made_call("w0000", name, i, i + 1),
            request={"model": "m", "messages": messages},
            prompt_tokens=None,
            output_tokens=20,
        )
        for i, (name, messages) in enumerate(prompts.items())
    ]
    waits = [("a", "b"), ("b", "c")]
    return made_trace([made_workflow(calls, {"trigger": waits, "barrier": waits})])


class Keeping:
    """A server whose tokens are words, and whose cache never forgets."""

    def __init__(self, *, tells: bool = True) -> None:
        self._tells = tells
        self._blocks: set[tuple[str, ...]] = set()

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m", "owned_by": "sglang"}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        words = " ".join(f"<{m['role']}> {m['content']}" for m in body["messages"]).split()
        starts = [tuple(words[:n]) for n in range(BLOCK, len(words), BLOCK)]
        cached = BLOCK * sum(start in self._blocks for start in starts)
        self._blocks.update(starts)
        await asyncio.sleep((len(words) - cached) / 4000)
        usage: dict[str, Any] = {"prompt_tokens": len(words), "completion_tokens": 20}
        if self._tells:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        response = web.StreamResponse()
        await response.prepare(request)
        choice = {"index": 0, "delta": {"content": "word " * 20}, "finish_reason": "stop"}
        for piece in ({"choices": [choice]}, {"choices": [], "usage": usage}):
            await response.write(b"data: " + orjson.dumps(piece) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    @contextmanager
    def url(self) -> Iterator[str]:
        """Answers in a thread of its own."""
        loop = asyncio.new_event_loop()
        app = web.Application()
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        runner = web.AppRunner(app)
        loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        loop.run_until_complete(site.start())
        thread = Thread(target=loop.run_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.run_until_complete(runner.cleanup())
            loop.close()


def replayed(folder: Path, url: str, *, trials: int = 3, options: Mapping[str, Any] | None = None) -> tuple[Run, ...]:
    knobs = Configuration(engine=url, time_scale=0, options=options or {})
    return rejoule.replay_traces({"t": trace()}, folder, configuration=knobs, trials=trials, progress=False).runs


@pytest.mark.filterwarnings("ignore::rejoule.traces.errors.RejouleWarning")
def test_trials_on_a_warm_cache_are_told_and_left_out(tmp_path: Path) -> None:
    """The first trial is cold and finds what its own calls left; the others are no equal work, and in no mean."""
    with Keeping().url() as url:
        runs = replayed(tmp_path / "runs", url)
    cold, *warm = runs
    assert cold.certificate.cached_tokens and not cold.certificate.violations
    assert [is_warm(run) for run in warm] == [True, True]
    assert coldest(runs).alike == (cold,)
    (found,) = spent(runs)
    assert found.trials == 1 and found.left_out == (1, 2)
    assert any("left out of the means (1, 2)" in note for note in found.notes)
    assert any("salt=prompt" in note for note in between_runs(runs))
    other = replace(warm[0], trial=0)
    with pytest.raises(RejouleError, match="cannot be told to forget"):
        pair([cold], [other])
    assert pair([cold], [other], allow_different_work=True)


@pytest.mark.filterwarnings("ignore::rejoule.traces.errors.RejouleWarning")
def test_a_cache_that_is_warm_from_the_first_trial_on_is_seen(tmp_path: Path) -> None:
    """By what a run alone cannot have left, though all trials agree; nothing is left out, and a note says it."""
    with Keeping().url() as url:
        replayed(tmp_path / "before", url, trials=1)
        runs = replayed(tmp_path / "runs", url)
    assert all(is_warm(run) for run in runs) and coldest(runs).alike == runs
    assert any(note.startswith(WARM) for note in warmth_notes(runs))


@pytest.mark.filterwarnings("ignore::rejoule.traces.errors.RejouleWarning")
@pytest.mark.parametrize("salt", [None, "prompt"])
def test_a_salt_in_front_of_prompts_keeps_runs_apart(tmp_path: Path, salt: str | None) -> None:
    """With it every trial finds as much as the first, at prompts of one length, and the certificate says so."""
    with Keeping().url() as url:
        runs = replayed(tmp_path / "runs", url, options={} if salt is None else {"salt": salt})
    cached = {run.certificate.cached_tokens for run in runs}
    lengths = {tuple(call.prompt_tokens for call in run.calls) for run in runs}
    assert len(lengths) == 1 and len({run.certificate.digest for run in runs}) == 1
    assert {run.certificate.salted for run in runs} == {salt is not None}
    assert len(cached) == (1 if salt else 2)
    assert any(map(is_warm, runs)) == (salt is None)


def test_passes_of_a_salted_run_are_apart(tmp_path: Path) -> None:
    """Each pass of --loops has a salt of its own, so all find the same."""
    with Keeping().url() as url:
        knobs = Configuration(engine=url, time_scale=0, loops=2, options={"salt": "prompt"})
        (run,) = rejoule.replay_traces({"t": trace()}, tmp_path / "r", configuration=knobs, progress=False).runs
    passes = [sorted(c.cached_tokens or 0 for c in run.calls if pass_of(c.id) == number) for number in (1, 2)]
    assert passes[0] == passes[1] and not run.certificate.violations


@pytest.mark.filterwarnings("ignore::rejoule.traces.errors.RejouleWarning")
def test_first_tokens_that_come_sooner_are_told(tmp_path: Path) -> None:
    """Where a server says nothing of its cache, trials whose first tokens come much sooner speak for a warm one."""
    with Keeping(tells=False).url() as url:
        runs = replayed(tmp_path / "runs", url)
    assert all(run.certificate.cached_tokens is None and not is_warm(run) for run in runs)
    # Only a call that shares nothing with earlier ones is slower when cold.
    alone = [replace(run, calls=run.calls[:1]) for run in runs]
    assert any("times sooner" in note for note in warmth_notes(alone))


@pytest.mark.parametrize(
    ("engine", "options", "said"),
    [
        ("sim", {"salt": "prompt"}, "already running"),
        ("http://h:1/v1", {"salt": "header"}, "salt=header is none"),
        ("http://h:1/v1", {"salt": "prompt", "tier": "spliced"}, "tier lengths"),
    ],
)
def test_a_salt_where_none_belongs_is_refused(engine: str, options: dict[str, str], said: str, tmp_path: Path) -> None:
    """Before anything is sent, with what to do."""
    knobs = Configuration(engine=engine, options=options)
    with pytest.raises(RejouleError, match=said):
        rejoule.replay_traces({"t": trace()}, tmp_path / "r", configuration=knobs, progress=False)
