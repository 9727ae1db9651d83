"""What the tap writes is what the scheduler did, and reading it survives whatever ends the server."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rejoule.replay.vllm.injected.rejoule_vllm.recorder import Recorder, Writer
from rejoule.replay.vllm.plugin.arguments import plugin_path
from rejoule.replay.vllm.plugin.steps import engines_between
from rejoule.replay.vllm.plugin.tap import (
    TapRequest,
    TapStep,
    client_request_id,
    iterate_tap,
    read_tap,
    read_tap_header,
)
from rejoule.traces import RejouleError

HEADER: dict[str, Any] = {"id_suffix": True, "vllm": "0.30.0"}


@dataclass
class Request:
    """As much of a vLLM request as the tap looks at."""

    num_prompt_tokens: int
    num_computed_tokens: int = 0
    num_output_tokens: int = 0

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_output_tokens


@dataclass
class Engine:
    """Drives a recorder as vLLM's scheduler would; requests are called ``chatcmpl-<name>-00000000``."""

    recorder: Recorder
    requests: dict[str, Request] = field(default_factory=dict)

    def step(self, tokens: Mapping[str, int], *, emitted: Mapping[str, int] | None = None, **more: Any) -> None:
        output = self.schedule(tokens, **more)
        self.process(output, tokens if emitted is None else emitted)

    def schedule(
        self,
        tokens: Mapping[str, int],
        *,
        new: Mapping[str, tuple[int, int]] | None = None,
        resumed: Mapping[str, int] | None = None,
        finished: frozenset[str] = frozenset(),
    ) -> Any:
        """``new`` and ``resumed`` give prompt and cached tokens of whom they admit."""
        for name, (prompt, cached) in (new or {}).items():
            self.requests[name] = Request(prompt, cached)
        for name, cached in (resumed or {}).items():
            self.requests[name].num_computed_tokens = cached
        for name, n in tokens.items():
            self.requests[name].num_computed_tokens += n
        output = SimpleNamespace(
            num_scheduled_tokens={engine_id(i): n for i, n in tokens.items()},
            total_num_scheduled_tokens=sum(tokens.values()),
            scheduled_new_reqs=[SimpleNamespace(req_id=engine_id(i)) for i in new or {}],
            scheduled_cached_reqs=SimpleNamespace(resumed_req_ids={engine_id(i) for i in resumed or {}}),
            finished_req_ids={engine_id(i) for i in finished},
        )
        known = {engine_id(i): r for i, r in self.requests.items()}
        self.recorder.scheduled(output, known, running=len(tokens), waiting=0, kv_usage=0.5)
        return output

    def process(self, output: Any, emitted: Mapping[str, int]) -> None:
        done = [SimpleNamespace(request_id=engine_id(i), new_token_ids=[7] * n) for i, n in emitted.items()]
        for name, n in emitted.items():
            self.requests[name].num_output_tokens += n
        self.recorder.processed(output, {0: SimpleNamespace(outputs=done)})


def engine_id(name: str) -> str:
    return f"chatcmpl-{name}-00000000"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tap.jsonl"


def engine(path: Path, *, speculative: bool = False, blocks: int | None = None) -> Engine:
    return Engine(Recorder(Writer(path), HEADER | {"num_gpu_blocks": blocks}, speculative=speculative))


def steps(engine: Engine, path: Path) -> tuple[TapStep, ...]:
    engine.recorder.writer.close()
    return read_tap(path)


def test_a_prompt_in_pieces_beside_a_decode(path: Path) -> None:
    e = engine(path)
    e.step({"a": 3}, new={"a": (4, 1)}, emitted={"a": 1})
    e.step({"a": 1, "b": 5}, new={"b": (8, 2)}, emitted={"a": 1})
    e.step({"a": 1, "b": 1})
    e.step({"a": 1, "b": 1})
    e.step({"b": 1}, finished=frozenset("a"))
    read = steps(e, path)
    assert [s.number for s in read] == [0, 1, 2, 3, 4]
    assert [s.requests for s in read] == [
        (TapRequest("a", True, 3, 1, 1, 1),),
        (TapRequest("a", False, 1, 4, 0, 1), TapRequest("b", True, 5, 2, 2, 0)),
        (TapRequest("a", False, 1, 5, 0, 1), TapRequest("b", True, 1, 7, 0, 1)),
        (TapRequest("a", False, 1, 6, 0, 1), TapRequest("b", False, 1, 8, 0, 1)),
        (TapRequest("b", False, 1, 9, 0, 1),),
    ]
    assert all(s.scheduled_ns <= s.processed_ns for s in read)
    assert read_tap_header(path)["vllm"] == "0.30.0"


def test_each_data_parallel_engine_tells_its_blocks_and_its_calls(path: Path) -> None:
    """By a tap of its own, also where it computed nothing; without all of them nobody knows."""
    begun_s = time.monotonic()
    for rank, name in ((0, "a"), (2, "b")):
        made = engine(path if rank == 0 else path.with_name(f"{path.name}.{rank}"), blocks=100 + rank)
        made.step({name: 4}, new={name: (4, 0)}, emitted={name: 1})
        made.recorder.writer.close()
    ended_s = time.monotonic()
    assert engines_between(path, 3, begun_s, ended_s) is None
    engine(path.with_name(f"{path.name}.1"), blocks=101).recorder.writer.close()
    assert engines_between(path, 3, begun_s, ended_s) == ((100, 101, 102), {"a": 0, "b": 2})


def test_a_preempted_request_computes_again_what_it_had(path: Path) -> None:
    e = engine(path)
    e.step({"a": 4, "b": 4}, new={"a": (4, 0), "b": (4, 0)}, emitted={"a": 1, "b": 1})
    e.recorder.preempted(engine_id("b"))
    e.step({"a": 1})
    e.step({"a": 1, "b": 3}, resumed={"b": 2}, emitted={"a": 1, "b": 1})
    read = steps(e, path)
    assert read[1].preempted == ("b",)
    assert read[2].requests[1] == TapRequest("b", True, 3, 2, 2, 1, resumed=True)


def test_steps_without_work_are_not_written_but_lose_nothing(path: Path) -> None:
    e = engine(path)
    e.step({"a": 4}, new={"a": (4, 0)}, emitted={"a": 1})
    e.step({}, finished=frozenset("a"))
    e.step({"b": 1}, new={"b": (1, 0)}, emitted={"b": 1})
    read = steps(e, path)
    assert [[r.id for r in s.requests] for s in read] == [["a"], ["b"]]


def test_under_asynchronous_scheduling_the_next_step_is_decided_before_the_last_is_known(path: Path) -> None:
    e = engine(path)
    first = e.schedule({"a": 4, "b": 4}, new={"a": (4, 0), "b": (4, 0)})
    second = e.schedule({"a": 1, "b": 1})
    e.process(first, {"a": 1, "b": 1})
    third = e.schedule({"a": 1}, finished=frozenset("b"))
    e.process(second, {"a": 1})
    e.process(third, {"a": 1})
    read = steps(e, path)
    assert read[1].scheduled_ns < read[0].processed_ns
    assert [r.emitted_tokens for r in read[1].requests] == [1, 0], "b was aborted while its token was computed"


def test_accepted_draft_tokens_are_emitted_and_stay_in_the_context(path: Path) -> None:
    e = engine(path, speculative=True)
    e.step({"a": 4}, new={"a": (4, 0)}, emitted={"a": 1})
    e.step({"a": 4}, emitted={"a": 3})
    e.step({"a": 4}, emitted={"a": 1})
    assert [(r.context_tokens, r.emitted_tokens) for s in steps(e, path) for r in s.requests] == [
        (0, 1),
        (4, 3),
        (7, 1),
    ]


def test_random_schedules_are_read_back_as_they_were(path: Path) -> None:
    random_ = random.Random(5)
    e = engine(path)
    expected: list[dict[str, tuple[int, int]]] = []
    left: dict[str, int] = {}
    for number in range(400):
        finished = frozenset(n for n in left if random_.random() < 0.1)
        for name in finished:
            del left[name]
        new = {f"r{number}-{i}": (random_.randint(1, 50), 0) for i in range(random_.choice([0, 0, 1, 2]))}
        left.update({name: prompt for name, (prompt, _) in new.items()})
        chosen = {n for n in left if n in new or random_.random() < 0.9}
        tokens = {n: random_.randint(1, left[n]) if left[n] else 1 for n in sorted(chosen)}
        emitted = {}
        for name, n in tokens.items():
            left[name] = max(0, left[name] - n)
            if not left[name]:
                emitted[name] = 1
        e.step(tokens, new=new, finished=finished, emitted=emitted)
        if tokens:
            expected.append({n: (tokens[n], emitted.get(n, 0)) for n in tokens})
    read = [{r.id: (r.computed_tokens, r.emitted_tokens) for r in s.requests} for s in steps(e, path)]
    assert read == expected


def test_a_last_line_that_was_cut_off_is_left_out(path: Path) -> None:
    e = engine(path)
    for _ in range(3):
        e.step({"a": 4}, new={"a": (4, 0)}, emitted={"a": 1})
    whole = steps(e, path)
    content = path.read_bytes()
    for cut in range(len(content.splitlines()[-1])):
        path.write_bytes(content[: len(content) - 1 - cut])
        assert read_tap(path) == whole[:2]


def test_damage_in_the_middle_is_named(path: Path) -> None:
    path.write_text('{"rejoule_step_tap":1,"id_suffix":true}\n{"step":0}\n')
    with pytest.raises(RejouleError, match="line 2"):
        list(iterate_tap(path))
    path.write_text("hello\n")
    with pytest.raises(RejouleError, match="no step tap"):
        read_tap(path)


def test_a_kill_loses_less_than_a_second(path: Path) -> None:
    code = (
        "import sys, time, types; from pathlib import Path; from rejoule_vllm.recorder import Recorder, Writer\n"
        "N = types.SimpleNamespace; recorder = Recorder(Writer(Path(sys.argv[1])), {'id_suffix': True})\n"
        "request = N(num_prompt_tokens=1, num_tokens=1, num_computed_tokens=1); new = [N(req_id='a')]\n"
        "while True:\n"
        "    out = N(num_scheduled_tokens={'a': 1}, total_num_scheduled_tokens=1, finished_req_ids=set(),\n"
        "            scheduled_new_reqs=new, scheduled_cached_reqs=N(resumed_req_ids=set())); new = []\n"
        "    recorder.scheduled(out, {'a': request}, running=1, waiting=0, kv_usage=0)\n"
        "    recorder.processed(out, {0: N(outputs=[None])}); time.sleep(0.01)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, env={"PYTHONPATH": str(plugin_path())}) as child:
        time.sleep(1.5)
        killed_ns = time.monotonic_ns()
        child.send_signal(signal.SIGKILL)
    assert killed_ns - read_tap(path)[-1].processed_ns < 1e9


@pytest.mark.parametrize("target", ["/dev/full", "/no/such/folder/tap"])
def test_a_disk_that_takes_nothing_turns_the_tap_off_and_nothing_else(target: str) -> None:
    e = engine(Path(target))
    deadline = time.monotonic() + 5
    while e.recorder.writer.alive and time.monotonic() < deadline:
        e.step({"a": 1}, new={"a": (1, 0)})
        time.sleep(0.01)
    assert not e.recorder.writer.alive
    e.step({"a": 1}, new={"a": (1, 0)})


@pytest.mark.parametrize(
    ("engine_id", "client_id"),
    [
        ("chatcmpl-call-7-1a2b3c4d", "call-7"),
        ("cmpl-call-7-0-1a2b3c4d", "call-7"),
        ("cmpl-call-7-3-1a2b3c4d", "call-7"),
        ("1_chatcmpl-call-7-1a2b3c4d", "call-7"),
        ("generate-tokens-call-7-1a2b3c4d", "call-7"),
        ("offline-1a2b3c4d", "offline"),
    ],
)
def test_the_clients_id_is_found_in_the_engines(engine_id: str, client_id: str) -> None:
    assert client_request_id(engine_id) == client_id
    assert client_request_id(engine_id.removesuffix("-1a2b3c4d"), suffixed=False) == client_id
