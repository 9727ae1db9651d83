"""Tier ``tokens`` on a real vLLM: the recorded work, token for token, whatever the batch size."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.request import urlopen

import orjson
import pytest
from tests.vllm.environment import vllm_environment
from tests.vllm.sizes import sizes

from rejoule.traces.model import Call
from rejoule.traces.run import CallResult, Run
from rejoule.traces.runs import RunFolder, load_runs

pytestmark = pytest.mark.vllm

WORKFLOWS = 2
TRIALS = 2
BATCHES = (1, 4, 16)
BLOCK = 32
BLOCKS = 400

SIZES = sizes(shared_prompt_tokens=400, test_time_s=0.5)
OPTIONS = {
    "load_format": "dummy",
    "dtype": "bfloat16",
    "enforce_eager": "true",
    "enable_chunked_prefill": "false",
    "block_size": BLOCK,
    "num_gpu_blocks": BLOCKS,
}


def rejoule(*words: object, env: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "rejoule.replay", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=env)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(server: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """All four workloads, recorded from one vLLM and replayed by servers of ReJoule's own."""
    python = Path(os.environ["VLLM_PYTHON"]).absolute()
    env = {**vllm_environment(), "REJOULE_VLLM_PYTHON": str(python)}
    place = tmp_path_factory.mktemp("exact")
    traces = [place / f"{graph}.jsonl" for graph in SIZES]
    for path in traces:
        sizes = [word for name, value in SIZES[path.stem].items() for word in ("--set", f"{name}={value}")]
        rejoule("record", path.stem, "-o", path, "--engine", server, "--workflows", WORKFLOWS, *sizes, env=env)
    with urlopen(f"{server}/models", timeout=10) as answer:
        options = {**OPTIONS, "model": orjson.loads(answer.read())["data"][0]["root"]}
    words = [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
    batches = ",".join(map(str, BATCHES))
    runs = place / "runs"
    rejoule("replay", *traces, "-o", runs, "--engine", "vllm", *words, "--max-num-seqs", batches, "--trials", TRIALS,
            env=env)  # fmt: skip
    return load_runs(runs)


def test_every_run_is_made_once(folder: RunFolder) -> None:
    """Each trace is replayed at each batch size, as often as asked."""
    made = Counter((run.trace, run.configuration.max_num_seqs, run.trial) for run in folder.runs)
    assert made == {(trace, batch, trial): 1 for trace in SIZES for batch in BATCHES for trial in range(TRIALS)}
    assert all(run.engine["max_num_seqs"] == run.configuration.max_num_seqs for run in folder.runs)


def test_identical_tokens(folder: RunFolder) -> None:
    """Every call of every run returns exactly its recorded ids, of a prompt of the recorded length."""
    for run in folder.runs:
        recorded = recorded_calls(folder, run)
        assert run.certificate.tier == "tokens"
        assert run.certificate.exact_calls == len(run.calls) == len(recorded)
        assert run.certificate.violations == ()
        for call in run.calls:
            assert (call.prompt_tokens, call.output_tokens) == (
                len(recorded[call.id].prompt_token_ids or ()),
                len(recorded[call.id].token_ids or ()),
            )


def test_equal_certificates(folder: RunFolder) -> None:
    """The certificates of one trace agree over all batch sizes and trials, and those of two traces do not."""
    digests = {trace: {run.certificate.digest for run in folder.runs if run.trace == trace} for trace in SIZES}
    assert all(len(found) == 1 for found in digests.values())
    assert len(set.union(*digests.values())) == len(SIZES)


def test_cold_caches(folder: RunFolder) -> None:
    """Every run begins with an empty prefix cache, and the server's own counters prove it."""
    for run in folder.runs:
        assert run.engine["cold_cache"] is True
        assert run.engine["cold_proof"] == "a probe that hit before the reset missed after it"


def test_cached_tokens(folder: RunFolder) -> None:
    """A call finds in the cache the longest beginning of whole blocks that its prompt shares with what came before.

    Before are tokens whose keys are computed: prompts, and outputs but for their last token. At batch size 1 that is
    all of the calls that ended earlier, so the number is exact, and its sum is equal in both trials. At others it is
    at least what calls that ended before it was sent left, and at most what calls sent before its first token bring.
    """
    for run in folder.runs:
        recorded = recorded_calls(folder, run)
        assert len(set().union(*(blocks(call) for call in recorded.values()))) < BLOCKS  # nothing is evicted
        for call in run.calls:
            assert call.first_token_s is not None
            ended = shared(call, (c for c in run.calls if c.end_s <= call.sent_s), recorded)
            begun = shared(call, (c for c in run.calls if c.sent_s < call.first_token_s), recorded)
            if run.configuration.max_num_seqs == 1:
                ended = begun = shared(
                    call,
                    (c for c in run.calls if c.first_token_s is not None and c.first_token_s < call.first_token_s),
                    recorded,
                )
            assert call.cached_tokens is not None
            assert ended <= call.cached_tokens <= begun, (run.id, call.id)
        assert cached(run) > 0
    for trace in SIZES:
        first, second = (
            cached(run) for run in folder.runs if (run.trace, run.configuration.max_num_seqs) == (trace, 1)
        )
        assert first == second


def test_step_tap_adds_up(folder: RunFolder) -> None:
    """Engine steps tile the run, never exceed the batch size, and hold every token of every call once."""
    for run in folder.runs:
        assert run.steps is not None
        assert all(a.end_s == b.start_s for a, b in zip(run.steps, run.steps[1:], strict=False))
        assert not any(step.preempted for step in run.steps)
        decoded: Counter[str] = Counter({call.id: 1 for call in run.calls})  # a prompt's last step emits the first
        computed: Counter[str] = Counter()
        found: Counter[str] = Counter()
        for step in run.steps:
            assert len(step.prefill) + len(step.decode) <= (run.configuration.max_num_seqs or 0)
            for name, tokens in step.decode:
                decoded[name] += tokens
            for name, tokens, hits in step.prefill:
                computed[name] += tokens
                found[name] += hits
        assert decoded == {call.id: call.output_tokens for call in run.calls}
        assert found == {call.id: call.cached_tokens for call in run.calls}
        assert {name: computed[name] + found[name] for name in computed} == {c.id: c.prompt_tokens for c in run.calls}


def recorded_calls(folder: RunFolder, run: Run) -> dict[str, Call]:
    return {call.id: call for call in folder.traces[run.trace].calls}


def cached(run: Run) -> int:
    return sum(call.cached_tokens or 0 for call in run.calls)


def blocks(call: Call) -> set[tuple[int, ...]]:
    """Every beginning of whole blocks that the call leaves in the cache."""
    computed = (*(call.prompt_token_ids or ()), *(call.token_ids or ())[:-1])
    return {computed[:end] for end in range(BLOCK, len(computed) + 1, BLOCK)}


def shared(call: CallResult, before: Iterable[CallResult], recorded: Mapping[str, Call]) -> int:
    """How many of a call's prompt tokens those before it left in the cache; the last is always computed."""
    held = set().union(*(blocks(recorded[other.id]) for other in before if other.id != call.id))
    prompt = recorded[call.id].prompt_token_ids or ()
    length = 0
    while length + BLOCK < len(prompt) and prompt[: length + BLOCK] in held:
        length += BLOCK
    return length
