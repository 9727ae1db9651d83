"""Which runs an experiment makes, and in which order."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from itertools import product
from typing import Any, Final

import msgspec

from rejoule.replay.policy.acting import server_options
from rejoule.traces.chosen import BLIND
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import LEARNED, OPTION, ORACLE, Configuration, configuration_key
from rejoule.traces.run_options import RUN_OPTIONS
from rejoule.traces.runs import Experiment, PlannedRun

NO_POLICY: Final = "none"
Sweep = Mapping[str, Sequence[Any]]
"""Values of knobs by name, of options as ``options.NAME``; ``None`` among them is the engine's own default."""


def swept(base: Configuration, sweep: Sweep) -> Iterator[Configuration]:
    """Every combination of the swept values, on top of ``base``."""
    for values in product(*sweep.values()):
        chosen = dict(zip(sweep, values, strict=True))
        options = {name.removeprefix(OPTION): chosen.pop(name) for name in sweep if name.startswith(OPTION)}
        found = replace(base, **chosen)
        if options:
            given = {**found.options, **options}
            found = replace(found, options={name: value for name, value in given.items() if value is not None})
        yield found


def configurations(knobs: Configuration | Mapping[str, Any], sweep: Sweep) -> tuple[Configuration, ...]:
    """Every combination of the swept values on top of the knobs that stay, each once.

    Raises RejouleError for one that is none, and for a knob or an option that is both set and swept.
    """
    held = asdict(knobs) if isinstance(knobs, Configuration) else dict(knobs)
    known = {f.name for f in fields(Configuration)}
    if unknown := sorted((set(held) | {name for name in sweep if not name.startswith(OPTION)}) - known):
        raise RejouleError(f"no knob is called {', '.join(unknown)}", f"knobs are {', '.join(sorted(known))}")
    for name, values in sweep.items():
        if isinstance(values, str | Mapping) or not isinstance(values, Collection):
            raise RejouleError(f"{name} = {values!r} is no list of values", f"write {name} = [{values!r}]")
        if not values:
            raise RejouleError(f"{name} is an empty list", "give at least one value")
    options = sorted(name.removeprefix(OPTION) for name in sweep if name.startswith(OPTION))
    if options and "options" in sweep:
        raise RejouleError(f"options and {options[0]} are both swept", "write each option's values by its own name")
    try:
        base = msgspec.convert(held, Configuration)
        if twice := [name for name in options if name in base.options]:
            raise RejouleError(f"{', '.join(twice)} is both set and swept", "leave one of them out")
        found = [msgspec.convert(asdict(c), Configuration) for c in swept(base, sweep)]
    except msgspec.ValidationError as error:
        raise RejouleError(f"a knob has a value that it cannot have: {error}", "see docs/experiments.md") from None
    return _once(found)


def _once(found: Iterable[Configuration]) -> tuple[Configuration, ...]:
    """Each configuration once. Beside policies, one without has nothing of theirs, and is not run for each of it."""
    meant = list(map(_meant, found))
    if any(c.policy is not None for c in meant):
        meant = [c if c.policy else replace(c, policy_knows=LEARNED, policy_options={}) for c in meant]
    return tuple({configuration_key(c): c for c in meant}.values())


def _meant(c: Configuration) -> Configuration:
    """``none`` is no policy, and to one that looks at nothing it is the same whatever it might know."""
    if c.policy == NO_POLICY:
        return replace(c, policy=None)
    return replace(c, policy_knows=LEARNED) if c.policy in BLIND and c.policy_knows == ORACLE else c


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
    options = {name: value for name, value in server_options(c).items() if name not in RUN_OPTIONS}
    return configuration_key(Configuration(engine=c.engine, max_num_seqs=c.max_num_seqs, options=options))


def _run_id(trace: str, configuration: Configuration, trial: int) -> str:
    key = hashlib.sha256(configuration_key(configuration).encode()).hexdigest()[:10]
    return f"{trace}-{key}-t{trial}"
