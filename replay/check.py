"""Whether a configuration can be run at all, before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Final

from rejoule.replay.arrivals import check_arrivals
from rejoule.replay.engines.open import check_engine
from rejoule.replay.exactness.models import OPTION, SIMULATED, models_for
from rejoule.replay.policy.acting import check_policy
from rejoule.replay.protocol.options import protocol_options
from rejoule.traces import RejouleError, Trace
from rejoule.traces.check import EDGE_SETS
from rejoule.traces.run import Configuration

MOST: Final[Mapping[str, float]] = {
    "max_num_seqs": 1e6,
    "power_cap_w": 1e5,
    "sm_clock_mhz": 1e5,
    "input_scale": 1e3,
    "output_scale": 1e3,
    "concurrency": 1e6,
    "loops": 1e5,
}
"""Knobs that are above 0, with what no experiment needs more of: beyond it a run would end in memory or never."""
MOST_TIME_SCALE: Final = 1e6
MOST_TRIALS: Final = 10_000
MOST_RUNS: Final = 100_000
MOST_CALLS: Final = 10_000_000
"""Of one run, its loops counted."""
MOST_TOKENS: Final = 10_000_000
"""Of one scaled prompt or answer."""


def check_configurations(configurations: Iterable[Configuration]) -> None:
    """Raises RejouleError for the first that cannot be run."""
    for configuration in configurations:
        check_configuration(configuration)


def check_configuration(configuration: Configuration) -> None:
    """Raises RejouleError naming the knob that has no meaning, or that its engine does not have."""
    c = configuration
    for name, most in MOST.items():
        value = getattr(c, name)
        if value is not None and not (isfinite(value) and 0 < value <= most):
            raise RejouleError(f"{name} = {value:g} has no meaning", f"give a number above 0, and up to {most:,.0f}")
    if not (isfinite(c.time_scale) and 0 <= c.time_scale <= MOST_TIME_SCALE):
        raise RejouleError(f"time_scale = {c.time_scale:g} has no meaning", "give 0 or a number above, up to a million")
    if not 0 <= c.seed < 2**63:
        raise RejouleError(f"the seed {c.seed} is out of range", "give one from 0 to 2**63 - 1")
    if c.edge_set not in EDGE_SETS:
        raise RejouleError(f"no edges are called {c.edge_set!r}", f"choose one of {', '.join(EDGE_SETS)}")
    check_arrivals(c.arrivals)
    check_policy(c)
    if c.engine != "sim":
        protocol_options(c.options)
    check_engine(c)


def check_models(traces: Mapping[str, Trace], configurations: Iterable[Configuration]) -> None:
    """Raises RejouleError for a trace of several models on an engine that is one; servers list what they are."""
    alone = [c for c in configurations if c.engine in ("sim", "vllm")]
    for model, others in {(str(c.options.get("model", SIMULATED)), c.options.get(OPTION)) for c in alone}:
        for trace in traces.values():
            models_for(trace, [model], {OPTION: others})


def check_size(traces: Mapping[str, Trace], configurations: Sequence[Configuration], trials: int) -> None:
    """Raises RejouleError for an experiment, a run or a call that is larger than a machine can hold."""
    if not traces or not configurations:
        raise RejouleError("there is nothing to replay", "give at least one trace, and one value for each swept knob")
    if not 1 <= trials <= MOST_TRIALS:
        raise RejouleError(f"{trials:,} trials are not possible", f"give 1 to {MOST_TRIALS:,}")
    if (runs := len(traces) * len(configurations) * trials) > MOST_RUNS:
        raise RejouleError(f"{runs:,} runs are more than an experiment may have", f"plan at most {MOST_RUNS:,}")
    for name, trace in traces.items():
        calls = list(trace.calls)
        longest = {
            "input_scale": max((call.prompt_tokens or 0 for call in calls), default=0),
            "output_scale": max((call.output_tokens or 0 for call in calls), default=0),
        }
        for configuration in configurations:
            if (count := len(calls) * configuration.loops) > MOST_CALLS:
                raise RejouleError(f"{name}: {count:,} calls are more than a run may have", "give fewer loops")
            for knob, tokens in longest.items():
                if (scaled := tokens * getattr(configuration, knob)) > MOST_TOKENS:
                    raise RejouleError(
                        f"{name}: {knob} makes a call of {scaled:,.0f} tokens", f"keep calls below {MOST_TOKENS:,}"
                    )
