"""A quick calibration: a profile made true for one card and one host, from 80 s of the grid.

Cards of one kind differ in their watts, hosts in how fast they launch; what a model computes and reads does not. So a
few constants move, and all others stay those of the parent; where caps or locks held the clock, those of the clock
move, too. The fit replays the quick grid on the simulated engine and compares what a client and the sensors see of each
cell (``outside``): a server whose steps nobody watches will do, and what is fitted is what a reader is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from itertools import count
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec.structs import replace

from rejoule.replay.calibration.capping import clocked
from rejoule.replay.calibration.fit import POWER, SHARED, TIMING, TWO_SHOTS
from rejoule.replay.calibration.grid import QUICK, Limits, cells, grid, kind_of
from rejoule.replay.calibration.least_squares import Found, Parameter, Search, Vector, least_squares
from rejoule.replay.calibration.outside import FIRST, WATTS, Shown, shown
from rejoule.replay.engines.sim import OPTIONS, SimEngine
from rejoule.replay.replay import replay
from rejoule.replay.sim.all_reduce import Exchange, Way
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.serving import BLOCK_SIZE
from rejoule.traces import RejouleError, Trace
from rejoule.traces.engine_options import KV_MEMORY, NCCL_ALONE
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun
from rejoule.traces.words import counted

API: Final = {
    "api_per_request_s": (1e-5, 0.2),
    "api_per_token_s": (1e-9, 1e-4),
    "api_crowd_s": (1e-7, 0.02),
}
BOUNDS: Final = {
    **{f"timing.{name}": bounds for name, bounds in (TIMING | API).items()},
    **{f"timing.{name}": bounds for name, bounds in (SHARED | TWO_SHOTS).items()},
    **{f"power.{name}": bounds for name, bounds in POWER.items()},
}
CARD: Final[Mapping[str, tuple[str, ...]]] = {
    "power.idle_w": ("power.awake_w",),
    "power.memory_w": ("power.traffic_w",),
    "power.cache_w": (),
    "power.compute_w": (),
}
"""Watts that move, and those that move along: at one clock they cannot be told apart."""
HOST: Final[Mapping[str, tuple[str, ...]]] = {
    "timing.host_per_step_s": ("timing.host_serial_s", "timing.host_workers_s"),
    "timing.host_per_request_s": (),
    "timing.host_prefill_s": (),
    "timing.host_eager_s": ("timing.host_all_reduce_s",),
    "timing.host_first_s": (),
    "timing.api_per_request_s": ("timing.api_answer_s", "timing.api_per_output_s", "timing.api_per_echoed_token_s"),
    "timing.api_per_token_s": (),
    "timing.api_crowd_s": (),
}
"""One process reads requests and writes answers: how fast it is, it is at both."""
LINK: Final[Mapping[Way, str]] = {
    "one shot": "timing.all_reduce_s",
    "two shots": "timing.two_shot_s",
    "NCCL": "timing.nccl_s",
}
"""The latency of each way in which GPUs exchange."""
CURVE: Final[Mapping[str, tuple[str, ...]]] = {
    "power.knee": (),
    "power.voltage_slope": (),
    "power.voltage_sag": (),
    "power.floor": (),
    "timing.memory_knee": (),
}
"""How watts and bandwidth follow the clock, which only caps and clock locks show."""
UNKNOWN: Final = {
    "timing.host_prefill_s": 5e-3,
    "timing.host_eager_s": 0.02,
    "timing.host_first_s": 1e-3,
    "timing.all_reduce_s": 1e-5,
    "timing.two_shot_s": 1e-5,
    "timing.nccl_s": 1e-5,
    "timing.api_per_request_s": 5e-3,
    "timing.api_per_token_s": 1e-6,
    "timing.api_crowd_s": 5e-4,
}
"""Where the search begins for what the parent does not know."""
PRIOR: Final = 0.4
"""By how much a constant differs between cards or hosts, as the standard deviation of its logarithm."""
WIDE: Final = 1.5
"""The same of one that the parent does not know, or assumes: of links, and where the clock is held, of that."""
SLOW_LINK: Final = 4.0
"""By how much slower an assumed latency of a link is tried, too."""
LEARNT: Final = 0.8
"""A constant that is known no better than by this share of its prior was not determined."""
WAITS: Final = 0.2
"""What a first token counts for beside watts and the time between tokens: hosts are fast at times, slow at others."""
MEASURE: Final = (
    "measure them: rejoule calibrate --quick -o PROFILE.json --engine vllm --option model=NAME, or --engine URL on the "
    "server's machine"
)
SEARCH: Final = Search(step=0.03, rounds=4, converged=1e-2)


class GridRun(NamedTuple):
    """A run of the grid, or of the quick one, and the limits that it was made for."""

    run: Run
    limits: Limits


Seen = Mapping[tuple[int, Shown], float]
"""By run and by what is seen."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What moved, and how far the cells are off with the parent and with what was fitted."""

    profile: Profile
    known: Mapping[str, float]
    """Relative standard error of each constant that moved."""
    undetermined: frozenset[str]
    """Those that the cells say too little of: they are near the parent's."""
    before: Seen
    """Relative errors."""
    after: Seen


def moving(
    parent: Profile,
    *,
    timing_only: bool = False,
    with_clock: bool = False,
    options: Sequence[Mapping[str, Any]] = ({},),
    seats: int = 1,
) -> dict[str, tuple[str, ...]]:
    """The constants that a card or host of the parent's kind has of its own; ``with_clock`` those of the clock too.

    Of several GPUs, the latency of each way in which those exchange what they decode, up to ``seats`` tokens a step, on
    servers with such ``options``.
    """
    links: dict[str, tuple[str, ...]] = {}
    if parent.tensor_parallel > 1:
        exchanges = [Exchange(parent, not given.get(NCCL_ALONE)) for given in options]
        links = {LINK[each.way_of(tokens)]: () for each in exchanges for tokens in range(1, seats + 1)}
    card = {} if timing_only else {**CARD, **(CURVE if with_clock else {})}
    return {**card, **HOST, **links}


def scaled(profile: Profile, factor: Callable[[str], float]) -> Profile:
    """Another card and host of the profile's kind: what ``factor`` says of each constant that moves."""
    parts = moving(profile)
    return _set(profile, {n: _value(profile, n) * factor(head) for head, rest in parts.items() for n in (head, *rest)})


def quick_fit(
    parent: Profile,
    runs: Sequence[GridRun],
    *,
    timing_only: bool = False,
    on_replay: Callable[[int], None] = lambda _: None,
) -> Fitted:
    """``parent`` with the few constants that explain the cells of ``runs`` best; cells of a full grid are left out.

    ``on_replay`` is told how often the grid was simulated so far. Raises RejouleError if the runs show nothing of them:
    no cells, or no watts unless it is ``timing_only``.
    """
    found = [shown(each.run, _chosen(each, parent)) for each in runs]
    measured = {(i, what): value for i, own in enumerate(found) for what, value in own.items()}
    if not any(what.what == FIRST for _, what in measured):
        if failed := [call for each in runs for call in each.run.failed_calls]:
            raise RejouleError(
                f"no cell of the grid was answered whole: {counted(len(failed), 'call')} failed, first {failed[0].id}: "
                f"{failed[0].error}",
                "see the server's log, and measure anew into another folder",
            )
        raise RejouleError("the runs hold no cells of the quick grid", MEASURE)
    if not timing_only and not any(what.what == WATTS for _, what in measured):
        raise RejouleError(
            "the runs hold no power readings",
            "measure on the GPU's machine, where NVML is at hand; or fit --timing-only",
        )
    traces = [grid(parent, each.limits, kinds=QUICK) for each in runs]

    times = count(1)

    def simulated(profile: Profile) -> Seen:
        on_replay(next(times))
        pairs = enumerate(zip(runs, traces, strict=True))
        return {(i, what): v for i, (each, trace) in pairs for what, v in _simulated(profile, trace, each).items()}

    first = simulated(parent)
    labels = sorted(key for key in measured.keys() & first.keys() if not (timing_only and key[1].what == WATTS))
    parts = moving(
        parent,
        timing_only=timing_only,
        with_clock=clocked(each.run for each in runs),
        options=[each.run.configuration.options for each in runs],
        seats=max(each.limits.max_num_seqs for each in runs),
    )
    start, parameters = _start(parent, parts)

    def predicted(values: Mapping[str, float]) -> Vector:
        # A cell that is short may become too short to show its watts.
        seen = {**first, **simulated(_with(start, parts, values))}
        return np.array([seen[label] for label in labels])

    goal = np.array([measured[label] for label in labels])
    weights = np.array([WAITS if what.what == FIRST else 1.0 for _, what in labels])
    fit = least_squares(predicted, goal, weights, parameters, prior=PRIOR, search=SEARCH)
    for begun in _from_above(parent, parameters):
        other = least_squares(predicted, goal, weights, begun, prior=PRIOR, search=SEARCH)
        # Where the cells say nothing of the links, it only is where it began.
        learnt = all(_learnt(other, p) for p in begun if _assumed(parent, p.name))
        fit = min(fit, other, key=lambda each: each.misfit) if learnt else fit
    profile = _with(start, parts, fit.values)
    last = {**first, **simulated(profile)}
    return Fitted(
        profile,
        {name: fit.known[head] for head, along in parts.items() for name in (head, *along)},
        frozenset(name for p in parameters if not _learnt(fit, p) for name in (p.name, *parts[p.name])),
        {label: first[label] / measured[label] - 1 for label in labels},
        {label: last[label] / measured[label] - 1 for label in labels},
    )


def grid_run(run: Run, trace: Trace | None = None) -> GridRun:
    """With the limits of its ``trace``, or else those of its server, as far as they are known."""
    usual, engine = Limits(), run.engine
    told = {} if trace is None else {name: trace.header.settings.get(name) for name in Limits.__slots__}
    seats = engine.get("max_num_seqs") or run.configuration.max_num_seqs
    found = {
        "max_num_seqs": seats,
        "max_num_batched_tokens": engine.get("max_num_batched_tokens"),
        "max_model_len": engine.get("max_model_len"),
        "kv_tokens": _kv_tokens(run, usual),
    } | {name: value for name, value in told.items() if value is not None}
    return GridRun(run, changed(usual, **{name: value for name, value in found.items() if value}))


def of_grid(each: GridRun, parent: Profile) -> bool:
    """Whether a run is of the grid at all, be it one whose calls failed."""
    names = {kind_of(cell.name) for cell in cells(parent, each.limits, QUICK)}
    return any(kind_of(call.node) in names for call in each.run.calls)


def broken(run: Run) -> frozenset[str]:
    """The cells of which a call failed: their load was another."""
    return frozenset(call.node for call in run.failed_calls)


def _chosen(measured: GridRun, parent: Profile) -> frozenset[str]:
    """The nodes of a run that are cells of the quick grid and whose calls were all answered; those that recur, as often
    as in it."""
    names = [cell.name for cell in cells(parent, measured.limits, QUICK)]
    recurring = {name for name in names if f"{kind_of(name)}-0" in names}
    kinds = {kind_of(name) for name in names if name not in recurring}
    nodes = {call.node for call in measured.run.calls} - broken(measured.run)
    return frozenset(node for node in nodes if node in recurring or kind_of(node) in kinds)


def _start(parent: Profile, parts: Mapping[str, tuple[str, ...]]) -> tuple[Profile, list[Parameter]]:
    """The parent with a guess for what it does not know, and where each of its constants may go."""
    start, parameters = parent, []
    for name in parts:
        low, high = BOUNDS[name]
        value, known = _value(parent, name), _value(parent, name) > 0
        if not known:
            value = UNKNOWN.get(name, parent.power.traffic_w)
            start = _set(start, {name: value})
        told = known and name not in CURVE and not _assumed(parent, name)
        parameters.append(Parameter(name, min(high, max(low, value)), low, high, None if told else WIDE))
    return start, parameters


def _from_above(parent: Profile, parameters: Sequence[Parameter]) -> list[list[Parameter]]:
    """The same with slower links, where those are assumed: what a slow host hides of them, it hides from the search."""
    slower = [changed(p, start=min(p.high, SLOW_LINK * p.start)) if _assumed(parent, p.name) else p for p in parameters]
    return [slower] if slower != list(parameters) else []


def _assumed(parent: Profile, name: str) -> bool:
    return name in LINK.values() and not parent.calibrated


def _learnt(fit: Found, parameter: Parameter) -> bool:
    prior = PRIOR if parameter.prior is None else parameter.prior
    return fit.known[parameter.name] <= LEARNT * prior


def _with(start: Profile, parts: Mapping[str, tuple[str, ...]], values: Mapping[str, float]) -> Profile:
    """``start`` with these constants, and those that move along by the same factor."""
    along = {
        name: _value(start, name) * values[head] / _value(start, head) for head, rest in parts.items() for name in rest
    }
    return _set(start, {**values, **along})


def _value(profile: Profile, name: str) -> float:
    part, _, field = name.partition(".")
    return float(getattr(getattr(profile, part), field) or 0.0)


def _set(profile: Profile, values: Mapping[str, float]) -> Profile:
    """``None`` and 0 that move along stay what they are."""
    for part in ("timing", "power"):
        held = getattr(profile, part)
        own = {name.removeprefix(f"{part}."): v for name, v in values.items() if name.startswith(f"{part}.") and v}
        profile = replace(profile, **{part: replace(held, **own)})
    return profile


def _simulated(profile: Profile, trace: Trace, measured: GridRun) -> dict[Shown, float]:
    run, given = measured.run, measured.run.configuration
    options = {name: value for name, value in given.options.items() if name in OPTIONS and name not in KV_MEMORY}
    told = {
        "num_gpu_blocks": _kv_tokens(run, measured.limits) // profile.serving.block_size,
        "max_num_batched_tokens": run.engine.get("max_num_batched_tokens") or measured.limits.max_num_batched_tokens,
    }
    configuration = Configuration(
        max_num_seqs=run.engine.get("max_num_seqs") or measured.limits.max_num_seqs,
        power_cap_w=given.power_cap_w,
        sm_clock_mhz=given.sm_clock_mhz,
        options=options | told,
    )

    async def opened(configuration: Configuration, trace: Trace) -> SimEngine:
        return SimEngine(configuration, trace, profile)

    return shown(asyncio.run(replay(trace, PlannedRun("quick", "grid", configuration, 0), "", opened)), crowds=True)


def _kv_tokens(run: Run, limits: Limits) -> int:
    """What the cache of its server holds; where that is not told, as much as its grid was made for."""
    blocks, size = run.engine.get("num_gpu_blocks"), run.engine.get("block_size") or BLOCK_SIZE
    return blocks * size if blocks else limits.kv_tokens
