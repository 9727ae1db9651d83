"""Runs that were made up, so that it is known what is to be found in them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rejoule.analysis.findings.answer import answers
from rejoule.analysis.findings.finding import Finding
from rejoule.analysis.findings.reading import Answer
from rejoule.traces.run import (
    CallResult,
    Certificate,
    Configuration,
    Energy,
    PowerCap,
    Run,
    WorkflowResult,
)
from rejoule.traces.runs import Experiment, RunFolder

NOISE = (0.998, 1.001, 1.0, 0.999, 1.002)
"""Of measured trials: a fifth of a percent."""
LOUD = (0.8, 1.25, 1.0, 0.85, 1.2)


def made(
    joules: float,
    *,
    graph: str = "agentic",
    trace: str | None = None,
    trial: int = 0,
    seconds: float = 10.0,
    wide: bool = False,
    workflows: int = 4,
    token_s: float = 0.01,
    cached: int = 0,
    bound: float | None = None,
    measured: bool = True,
    digest: str = "same",
    **knobs: Any,
) -> Run:
    """A run of so many joules and seconds; each of its workflows has two calls, beside each other if it is ``wide``."""
    calls, half_s = [], seconds / 2.0
    for number in range(workflows):
        for turn in range(2):
            at_s = 0.0 if wide else turn * half_s
            calls.append(
                CallResult(
                    f"w{number}/c{turn}", f"w{number}", "node", at_s, at_s, at_s + half_s, at_s + half_s - token_s * 10,
                    prompt_tokens=100, cached_tokens=cached, output_tokens=11,
                )
            )  # fmt: skip
    engine = "vllm" if measured else "sim"
    return Run(
        id=f"{trace or graph}-{sorted(knobs.items())}-{trial}",
        trace=trace or graph,
        trace_digest="",
        configuration=Configuration(engine=engine, **knobs),
        trial=trial,
        makespan_s=seconds,
        calls=tuple(calls),
        workflows=tuple(WorkflowResult(f"w{n}", graph, 0.0, half_s * (1 if wide else 2)) for n in range(workflows)),
        tools=(),
        energy=Energy(gpu_j=joules, source={"gpu": "nvml-counter" if measured else "model:made-up"}),
        power_cap=PowerCap(knobs.get("power_cap_w"), knobs.get("power_cap_w"), bound),
        certificate=Certificate("tokens", digest, len(calls)),
        engine={"gpus": 1, "num_gpu_blocks": 100, "block_size": 16},
    )


def trials(joules: float, noise: Sequence[float] = NOISE, **made_of: Any) -> list[Run]:
    """Five measured trials, or one of the simulated engine."""
    if made_of.get("measured") is False:
        return [made(joules, **made_of)]
    mixed = list(noise)
    random.Random(repr(sorted(made_of.items()))).shuffle(mixed)
    seconds, token_s = made_of.pop("seconds", 10.0), made_of.pop("token_s", 0.01)
    return [
        made(joules * factor, trial=i, seconds=seconds * factor, token_s=token_s * factor, **made_of)
        for i, factor in enumerate(mixed)
    ]


def along(knob: str, points: Mapping[Any, float], **made_of: Any) -> list[Run]:
    """Joules by the values of a knob."""
    return [run for value, joules in points.items() for run in trials(joules, **{knob: value, **made_of})]


def folder(runs: Iterable[Run], name: str = "runs") -> RunFolder:
    kept = tuple(runs)
    return RunFolder(Path(name), Experiment({}, (), 1, 0, "0"), kept, {})


def asked(runs: Iterable[Run] | Sequence[RunFolder], **said: Any) -> Answer:
    """What runs say of a finding."""
    body = {"id": "mine", "claim": "A claim.", "source": "here", "metric": "energy per workflow", **said}
    given = list(runs)
    folders = [each for each in given if isinstance(each, RunFolder)]
    loose = [each for each in given if isinstance(each, Run)]
    return answers(folders or [folder(loose)], [msgspec.convert(body, Finding)])[0]
