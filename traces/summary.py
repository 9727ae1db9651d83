"""The figures of a run that every table and every ``--json`` shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rejoule.traces import clock_curve, preempted
from rejoule.traces.by_gpu import by_gpu
from rejoule.traces.chosen import BLIND
from rejoule.traces.engine_options import DEFAULTS, option_words
from rejoule.traces.figures import figures
from rejoule.traces.modelled import option_notes, uncalibrated, worth
from rejoule.traces.percentiles import percentiles
from rejoule.traces.run import CONTINUOUS, Configuration, Run
from rejoule.traces.waits import served


def first_tokens_s(run: Run) -> list[float]:
    """The time to first token of every answered call, from when it was sent."""
    return [c.first_token_s - c.sent_s for c in run.calls if c.error is None and c.first_token_s is not None]


def latencies_s(run: Run) -> dict[str, list[float]]:
    """Every call's time to first token (``ttft``) and to its end (``e2e``) from when it was sent, every complete
    workflow's time (``workflow``), and every call's mean time between tokens (``itl``), in seconds.

    How long the client held calls before is a figure of its own.
    """
    good = [c for c in run.calls if c.error is None]
    return {
        "ttft": first_tokens_s(run),
        "itl": [
            (c.end_s - c.first_token_s) / (c.output_tokens - 1)
            for c in good
            if c.first_token_s is not None and c.output_tokens is not None and c.output_tokens > 1
        ],
        "e2e": [c.end_s - c.sent_s for c in good],
        "workflow": [w.end_s - w.arrival_s for w in served(run)],
    }


def total(values: Iterable[int | None]) -> int | None:
    """The sum, or ``None`` if any of them, or all, is unknown."""
    known = list(values)
    return None if not known or any(v is None for v in known) else sum(v or 0 for v in known)


def summary(run: Run) -> dict[str, Any]:
    """One run as the object that ``rejoule replay --json`` prints."""
    e = run.energy
    return {
        "run": run.id,
        "trace": run.trace,
        "configuration": asdict(run.configuration),
        "trial": run.trial,
        "calls": len(run.calls),
        "failed_calls": len(run.failed_calls),
        "workflows": len(run.workflows),
        "makespan_s": run.makespan_s,
        "prompt_tokens": total(c.prompt_tokens for c in run.calls),
        "cached_tokens": total(c.cached_tokens for c in run.calls),
        "output_tokens": total(c.output_tokens for c in run.calls),
        "preempted": preempted.as_json(run),
        "energy_j": {"gpu": e.gpu_j, "cpu": e.cpu_j, "dram": e.dram_j, "idle": e.idle_j},
        "gpus": [asdict(gpu) for gpu in by_gpu(run)],
        "energy_source": dict(e.source),
        "uncertainty_j": dict(e.uncertainty_j),
        "power_cap": asdict(run.power_cap),
        "latency_s": {name: percentiles(values) for name, values in latencies_s(run).items()},
        "figures": asdict(figures(run)),
        "conditions": None if run.conditions is None else asdict(run.conditions),
        "certificate": asdict(run.certificate),
        "engine": dict(run.engine),
        "uncalibrated": uncalibrated(run),
        "example_error": worth(run),
        "modelled_options": list(option_notes([run])),
        "clock_curve": clock_curve.as_json(run),
    }


def policy_word(configuration: Configuration) -> str:
    """A configuration's policy and what it knows: ``policy nat (learned)``; ``policy las``, which looks at nothing."""
    c = configuration
    if c.policy is None:
        return "no policy"
    return f"policy {c.policy}" if c.policy in BLIND else f"policy {c.policy} ({c.policy_knows})"


def described(configuration: Configuration, options: Iterable[str] | None = None) -> str:
    """A configuration in a few words: the knobs that are set, and those ``options``, or all that engines have alike."""
    c = configuration
    shown = [name for name in DEFAULTS if name in c.options] if options is None else options
    turned = {name: c.options.get(name) for name in shown}
    words = [
        f"batch {c.max_num_seqs}" if c.max_num_seqs is not None else "",
        f"{c.power_cap_w:g} W" if c.power_cap_w is not None else "",
        f"{c.sm_clock_mhz:g} MHz" if c.sm_clock_mhz is not None else "",
        f"input ×{c.input_scale:g}" if c.input_scale != 1 else "",
        f"output ×{c.output_scale:g}" if c.output_scale != 1 else "",
        f"{c.loops} loops" if c.loops != 1 else "",
        policy_word(c) if c.policy is not None else "",
        *(f"{name}={value}" for name, value in c.policy_options.items()),
        f"{c.batching} batching" if c.batching != CONTINUOUS else "",
        *option_words(turned),
    ]
    return ", ".join(w for w in words if w) or "defaults"
