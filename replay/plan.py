"""Which runs an experiment makes, and in which order."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import product
from typing import Any

from rejoule.replay.engines.run_options import RUN_OPTIONS
from rejoule.traces.run import Configuration, configuration_key
from rejoule.traces.runs import Experiment, PlannedRun

Sweep = Mapping[str, Sequence[Any]]
"""Values of knobs by name; ``None`` among them is the engine's own default."""


def swept(base: Configuration, sweep: Sweep) -> Iterator[Configuration]:
    """Every combination of the swept values, on top of ``base``."""
    for values in product(*sweep.values()):
        yield replace(base, **dict(zip(sweep, values, strict=True)))


def plan(traces: Mapping[str, str], configurations: Sequence[Configuration], *, trials: int, seed: int) -> Experiment:
    """Every trace under every configuration, ``trials`` times.

    ``traces`` gives each trace's digest. Each trial is a block of all configurations, shuffled by ``seed``; every
    second one is the one before it backwards (ABBA), so that over two trials all configurations have the same mean
    place, and what drifts evenly, as heat does, falls on all alike. Configurations that need servers of their own are
    the exception: starting one takes minutes, so all runs of a server come together, and the servers are shuffled.
    """
    source = random.Random(seed)
    servers: dict[str, list[Configuration]] = {}
    for configuration in configurations:
        servers.setdefault(_server(configuration), []).append(configuration)
    groups = list(servers.values())
    source.shuffle(groups)
    runs: list[PlannedRun] = []
    for group in groups:
        block = [(name, c) for name in traces for c in group]
        for trial in range(trials):
            if trial % 2:
                block.reverse()
            else:
                source.shuffle(block)
            runs += [PlannedRun(_run_id(name, c, trial), name, c, trial) for name, c in block]
    return Experiment(
        traces=dict(traces), runs=tuple(runs), trials=trials, seed=seed, rejoule_version=version("rejoule")
    )


def _server(configuration: Configuration) -> str:
    """Equal for configurations that one server can answer; the simulated engine is new for every run."""
    c = configuration
    if c.engine != "vllm":
        return ""
    options = {name: value for name, value in c.options.items() if name not in RUN_OPTIONS}
    return configuration_key(Configuration(engine=c.engine, max_num_seqs=c.max_num_seqs, options=options))


def _run_id(trace: str, configuration: Configuration, trial: int) -> str:
    key = hashlib.sha256(configuration_key(configuration).encode()).hexdigest()[:10]
    return f"{trace}-{key}-t{trial}"
