"""The simulated engine in virtual time: equal runs, byte for byte, on any machine."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from math import fsum, inf
from typing import Any

import msgspec

from rejoule.replay.embedded.tokenizer import chat_ids, encode
from rejoule.replay.engine import Emitted, Measured
from rejoule.replay.exactness.models import SIMULATED, models_for
from rejoule.replay.exactness.requests import ids_digest, scaled_ids, scaled_length
from rejoule.replay.exactness.tiers import altered_ids, salted
from rejoule.replay.policy.acting import PRIORITY, queues_by_priority
from rejoule.replay.policy.interface import Capacity
from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.engine import StepEngine
from rejoule.replay.sim.jobs import SimRequest
from rejoule.replay.sim.makeup import makeup
from rejoule.replay.sim.margins import near_cap
from rejoule.replay.sim.profile import Profile, fitted_to, profile_digest
from rejoule.replay.sim.records import StepRecord
from rejoule.replay.sim.shipped import load_profile, worth_of
from rejoule.replay.sim.tensor_parallel import on_gpus
from rejoule.traces import RejouleError, Trace
from rejoule.traces.clock_curve import CARDS_DIFFER
from rejoule.traces.engine_options import GPUS
from rejoule.traces.model import Call
from rejoule.traces.run import CallResult, Configuration, Energy, PowerCap, Step, Tier
from rejoule.traces.run_options import RUN_OPTIONS
from rejoule.traces.work import left_out, output_tokens

DEFAULT_PROFILE = "h200-llama-3.1-8b"
LATE_S = 0.0003
"""A client acts so long after what it waited for, and what became due meanwhile is due together with it. So long
ReJoule's own takes to send a request: the median over the runs of benchmarks/h200 of each run's median, rounded (python
-m benchmarks.lateness). Over calls it is longer, since those that are due together wait for each other."""

OPTIONS: Mapping[str, Any] = {
    "max_num_batched_tokens": int,
    "num_gpu_blocks": int,
    "gpu_memory_utilization": float,
    "kv_cache_memory_bytes": int,
    "kv_cache_dtype": str,
    "enable_prefix_caching": bool,
    "enable_chunked_prefill": bool,
    "long_prefill_token_threshold": int,
    "async_scheduling": bool,
    "scheduling_policy": str,
    "enforce_eager": bool,
    "cudagraph_capture_sizes": tuple[int, ...],
    "tensor_parallel_size": int,
    "disable_custom_all_reduce": bool,
}
"""vLLM's options that the simulated engine has too, with the types of their values."""


def engine_config(configuration: Configuration, profile: Profile | None = None) -> EngineConfig:
    """The knobs in the engine's own terms, of ``profile`` or else of the one that they name.

    Raises RejouleError for an unknown profile or a value that is none.
    """
    unknown = sorted(set(configuration.options) - set(OPTIONS) - set(RUN_OPTIONS))
    if unknown:
        raise RejouleError(
            f"the simulated engine has no option {', '.join(unknown)}",
            f"take one of {', '.join(OPTIONS)}, or of those of a run: {', '.join(RUN_OPTIONS)}",
        )
    chosen = {name: _typed(name, value) for name, value in configuration.options.items() if name in OPTIONS}
    chosen.pop(GPUS, None)
    if queues_by_priority(configuration):
        chosen["scheduling_policy"] = PRIORITY
    clock = configuration.sm_clock_mhz
    return EngineConfig(
        profile=profile_of(configuration, profile),
        max_num_seqs=configuration.max_num_seqs,
        power_cap_w=configuration.power_cap_w,
        sm_clock_mhz=None if clock is None else round(clock),
        seed=configuration.seed,
        **chosen,
    )


def profile_of(configuration: Configuration, profile: Profile | None = None) -> Profile:
    """The profile that answers: ``profile`` or the one that is named, on as many GPUs as are asked for.

    Raises RejouleError for an unknown profile, or one that cannot be put on so many.
    """
    found = load_profile(configuration.profile or DEFAULT_PROFILE) if profile is None else profile
    gpus = configuration.options.get(GPUS)
    return found if gpus is None else on_gpus(found, _typed(GPUS, gpus))


def _typed(name: str, value: Any) -> Any:
    try:
        return msgspec.convert(value, OPTIONS[name])
    except msgspec.ValidationError:
        kind = getattr(OPTIONS[name], "__name__", "list of int")
        raise RejouleError(f"{name} = {value!r} is not {kind}", "take a value as vLLM takes it") from None


def sim_identity(configuration: Configuration) -> dict[str, Any]:
    """What would answer a configuration: its profile, by name and by content."""
    return _identity(profile_of(configuration))


def _identity(profile: Profile) -> dict[str, Any]:
    return {"profile": profile.name, "profile_digest": profile_digest(profile)}


def check_sim(configuration: Configuration) -> None:
    """Raises RejouleError if the engine cannot take a configuration."""
    StepEngine(engine_config(configuration))


class SimEngine:
    """Answers calls with their recorded output, when the modelled engine would have."""

    def __init__(self, configuration: Configuration, trace: Trace, profile: Profile | None = None) -> None:
        """``profile`` stands in for the one that the configuration names."""
        self._configuration = configuration
        self._engine = StepEngine(engine_config(configuration, profile))
        self._models = models_for(trace, [SIMULATED], configuration.options)
        self._tier: Tier = "tokens" if all(map(_has_ids, trace.calls)) else "lengths"
        self._sent: dict[str, CallResult] = {}
        self._first_token_s: dict[str, float] = {}
        self._now_s = 0.0
        """Of what the client learnt last. The engine's own time is ahead of it while a step is launched, which nobody
        outside waits for."""
        self._to_tell: deque[CallResult | Emitted] = deque()
        """What the client learns later than now, in order."""

    @property
    def tier(self) -> Tier:
        return self._tier

    @property
    def real_server(self) -> None:
        return None

    @property
    def identity(self) -> Mapping[str, Any]:
        return _identity(self._engine.config.profile)

    @property
    def capacity(self) -> Capacity:
        pool = self._engine.pool
        return Capacity(self._engine.limits.max_num_seqs, pool.capacity * pool.block_size)

    async def start(self) -> None:
        """The clock of a new engine stands at zero."""

    def now_s(self) -> float:
        return self._now_s + LATE_S

    def send(
        self, call: Call, due_s: float, ready_s: float, tell_at: Sequence[int] = (), priority: int | None = None
    ) -> None:
        prompt, scale = prompt_ids(call), self._configuration.input_scale
        if scale != 1:
            prompt = scaled_ids(prompt, scale)
        output = output_ids(call, self._configuration.output_scale)
        changed = altered_ids(call, self._models)
        self._sent[call.id] = CallResult(
            id=call.id,
            workflow=call.workflow,
            node=call.node,
            agent=call.agent,
            due_s=due_s,
            sent_s=ready_s,
            end_s=ready_s,
            prompt_tokens=len(prompt),
            output_tokens=len(output),
            finish_reason=call.finish_reason,
            exact=None if changed else True,
            prompt_digest=ids_digest(prompt),
            output_digest=ids_digest(output),
            altered=changed,
        )
        salt = salted(call).get("cache_salt")
        request = SimRequest(call.id, prompt, len(output), output, priority or 0, salt, tuple(tell_at))
        self._engine.add(request, ready_s)

    async def wait(self, until_s: float | None) -> Sequence[CallResult | Emitted]:
        # Virtual time passes without waiting; an interrupt is only seen where the event loop has its turn.
        await asyncio.sleep(0)
        if not self._to_tell:
            self._to_tell.extend(self._advanced(until_s))
        results: list[CallResult | Emitted] = []
        next_s = _told_s(self._to_tell[0]) if self._to_tell else inf
        if until_s is not None and next_s > until_s:
            self._now_s = max(self._now_s, until_s)
            return results
        # One instant at a time: what a client does about it, it does before it learns more.
        while self._to_tell and _told_s(self._to_tell[0]) == next_s:
            results.append(self._to_tell.popleft())
        self._now_s = next_s if results else self._engine.now_s
        return results

    def _advanced(self, until_s: float | None) -> Iterator[CallResult | Emitted]:
        """What there is to tell of the engine's next events."""
        for event in self._engine.advance(until_s):
            if event.kind == "first_token":
                self._first_token_s[event.id] = event.at_s
            elif event.kind == "emitted":
                yield Emitted(event.id, event.tokens, event.at_s)
            else:
                yield replace(
                    self._sent.pop(event.id),
                    end_s=event.at_s,
                    first_token_s=self._first_token_s.pop(event.id),
                    cached_tokens=event.cached_tokens,
                    preemptions=event.preemptions,
                )

    async def finish(self) -> Measured:
        engine, log = self._engine, self._engine.log
        # The GPU idles until the last answer is with its client.
        engine.advance(engine.told_s)
        profile = engine.config.profile
        source = f"model:{profile.name}"
        return Measured(
            energy=Energy(
                gpu_j=fsum(r.energy_j for r in log.records),
                idle_j=fsum(r.energy_j for r in log.records if r.idle),
                source={"gpu": source, "idle": source},
            ),
            power_cap=PowerCap(
                requested_w=self._configuration.power_cap_w,
                in_force_w=engine.power.cap_w,
                bound_fraction=log.bound_s / log.busy_s if log.busy_s else None,
                attainable=log.attainable,
            ),
            steps=_steps(log.records, makeup(log.records, engine.latency, engine.power)),
            engine={
                **self.identity,
                **worth_of(profile),
                "measured_on": fitted_to(profile),
                "clock_curve": msgspec.to_builtins(profile.clock_curve),
                "near_cap": self._near_cap(),
                "max_num_seqs": engine.limits.max_num_seqs,
                "max_num_batched_tokens": engine.limits.max_num_batched_tokens,
                "num_gpu_blocks": engine.pool.capacity + 1,
                "async_scheduling": engine.limits.async_scheduling,
            },
        )

    def _near_cap(self) -> float | None:
        """Of a cap below the default limit, unless the profile was measured on the very card that it is for."""
        engine, profile = self._engine, self._engine.config.profile
        known = profile.clock_curve is not None and profile.clock_curve.own_card
        if known or engine.power.cap_w >= profile.gpu.default_power_limit_w:
            return None
        return near_cap(engine.log.records, engine.latency, engine.power, CARDS_DIFFER)

    async def close(self) -> None:
        """Nothing outside the process is held."""


def _told_s(result: CallResult | Emitted) -> float:
    return result.at_s if isinstance(result, Emitted) else result.end_s


def _has_ids(call: Call) -> bool:
    return left_out(call) is not None or bool(call.prompt_token_ids and call.token_ids)


def prompt_ids(call: Call) -> Sequence[int]:
    """A prompt as token ids: those that the server returned, else the embedded tokenizer's, as many as were counted."""
    if call.prompt_token_ids is not None:
        return call.prompt_token_ids
    prompt = call.request.get("prompt")
    if isinstance(prompt, str):
        ids: Sequence[int] = encode(prompt)
    elif isinstance(prompt, Sequence):
        ids = [int(i) for i in prompt]
    else:
        ids = chat_ids(call.request.get("messages", ()), call.request.get("tools"))
    return _as_long_as(ids, call.prompt_tokens)


def output_ids(call: Call, scale: float) -> Sequence[int]:
    """An answer as token ids, repeated from its beginning where ``scale`` makes it longer."""
    ids = call.token_ids if call.token_ids else _as_long_as(encode(call.text or "") or (0,), output_tokens(call))
    return _as_long_as(ids, scaled_length(len(ids), scale))


def _as_long_as(ids: Sequence[int], tokens: int | None) -> Sequence[int]:
    # Another tokenizer counted; beginnings, which are what the prefix cache shares, stay as they are.
    if not tokens or not ids or tokens == len(ids):
        return ids
    return list(islice(cycle(ids), tokens))


class _Emitted(dict[str, tuple[str, int]]):
    """(call, tokens) by call, each kept once: long runs repeat them in thousands of steps."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    def __missing__(self, call: str) -> tuple[str, int]:
        return self.setdefault(call, (call, self._tokens))


def _steps(records: Sequence[StepRecord], made: Sequence[tuple[float, ...]]) -> tuple[Step, ...]:
    emitted = {tokens: _Emitted(tokens) for tokens in {record.steps for record in records}}
    return tuple(_step(r, emitted[r.steps], parts) for r, parts in zip(records, made, strict=True))


def _step(record: StepRecord, emitted: _Emitted, parts: tuple[float, ...]) -> Step:
    return Step(
        start_s=record.start_s,
        end_s=record.end_s,
        steps=record.steps,
        energy_j=record.energy_j,
        sm_clock_mhz=record.sm_clock_mhz,
        cap_bound=record.cap_bound,
        prefill=record.prefill,
        decode=tuple([emitted[call] for call in record.decode_ids]),
        preempted=record.preempted,
        prefill_context=record.prefill_context,
        decode_context=record.decode_context,
        makeup=parts,
    )
