"""What one replay measured, with its whole configuration.

Every time is in seconds from the start of the run, on the engine's own clock. What could not be measured is ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Final, Literal

import orjson

from rejoule.traces.secrets import masked
from rejoule.traces.work import Account

RUN_FORMAT_VERSION: Final = 4

LEARNED: Final = "learned"
ORACLE: Final = "oracle"
OPTION: Final = "options."
"""Before the name of an engine's option, where options stand beside knobs."""
CONTINUOUS: Final = "continuous"
STATIC: Final = "static"
PARROT: Final = "parrot:"
"""Before the URL of a Parrot server, where an engine is named."""

Tier = Literal["tokens", "spliced", "lengths", "none"]


@dataclass(frozen=True, slots=True)
class Configuration:
    """A value for every knob. ``None`` leaves the engine's own default in force."""

    engine: str = "sim"
    """``sim``, ``vllm``, or the URL of a server."""
    profile: str | None = None
    max_num_seqs: int | None = None
    power_cap_w: float | None = None
    sm_clock_mhz: float | None = None
    input_scale: float = 1.0
    output_scale: float = 1.0
    edge_set: str = "barrier"
    arrivals: str = "recorded"
    """``recorded``, ``burst``, ``poisson:RATE`` (workflows a second) or ``users:N[,THINK_S]`` (a closed loop)."""
    concurrency: int | None = None
    """Most calls in flight at a time, those of one workflow included; ``None`` is no limit."""
    time_scale: float = 1.0
    """Factor on recorded arrivals, gaps and tool times."""
    loops: int = 1
    """Times that the trace is gone through, one after another, each with a cold cache: a longer window to measure."""
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further options of the engine, as given, but for keys and passwords: in their place are masks."""
    policy: str | None = None
    """What orders and holds calls; ``None`` sends what is due, the workflow that arrived first before others."""
    policy_knows: str = LEARNED
    """``learned`` or ``oracle``: what a policy knows of what is to come. Without a policy it is no knob."""
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    batching: str = CONTINUOUS
    """``continuous``, or ``static``: calls go out in waves, each when all of the one before have ended."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", masked(self.options))


@dataclass(frozen=True, slots=True)
class CallResult:
    """What one call of the trace did in the run."""

    id: str
    workflow: str
    node: str
    due_s: float
    """When the schedule wanted it sent."""
    sent_s: float
    end_s: float
    first_token_s: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    preemptions: int | None = None
    finish_reason: str | None = None
    exact: bool | None = None
    """Whether it did the work that was asked for: at tier ``tokens`` the same ids, otherwise the same length."""
    error: str | None = None
    prompt_digest: str = ""
    """Of what was sent."""
    output_digest: str = ""
    """Of what came back, as far as the tier promises that it is equal."""
    refused: bool = False
    """The server would not do it at all; what waited for it was sent all the same."""
    altered: tuple[str, ...] = ()
    """In what it was not just the recorded call, as `rejoule.traces.work` names it; then ``exact`` is never true."""
    agent: str | None = None
    """As the trace has it; ``None`` also in runs of before agents were recorded."""


@dataclass(frozen=True, slots=True)
class WorkflowResult:
    """One workflow of the run; its latency runs from its arrival to its last call's end."""

    id: str
    graph: str
    arrival_s: float
    end_s: float
    complete: bool = True
    success: bool | None = None
    """As recorded; ``None`` also in runs of before successes were."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """One tool call that the run waited out, not executed."""

    id: str
    workflow: str
    node: str
    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of the engine's work with one batch: one engine step, or several equal decode steps in a row.

    The steps of a run are contiguous in time, stretches without work included.
    """

    start_s: float
    end_s: float
    steps: int
    """Engine steps in it; 0 when idle."""
    energy_j: float | None
    sm_clock_mhz: float | None = None
    cap_bound: bool | None = None
    prefill: tuple[tuple[str, int, int], ...] = ()
    """(call, tokens computed, tokens found in the prefix cache at admission)."""
    decode: tuple[tuple[str, int], ...] = ()
    """(call, tokens emitted)."""
    preempted: tuple[str, ...] = ()
    prefill_context: tuple[int, ...] = ()
    """Tokens that lay in the KV cache before each entry of ``prefill``; empty if unknown."""
    decode_context: tuple[int, ...] = ()
    """Tokens that each entry of ``decode`` attended to, summed over its steps; empty if unknown."""
    makeup: tuple[float, ...] = ()
    """What a model says that ``energy_j`` is made of: joules at the greatest clock without a cap over ``energy_j``,
    then the shares of them that decoded tokens, their contexts, prompts' launches, prompt tokens and their contexts add
    to an empty step. Steps without prompts have no shares of prompts; empty if unknown."""

    @property
    def idle(self) -> bool:
        return not self.prefill and not self.decode


@dataclass(frozen=True, slots=True)
class Reading:
    """What the sensors of all GPUs of the run said over a stretch of time.

    The readings of a run are contiguous; they end where the energy counters ticked, and at the run's own ends.
    """

    start_s: float
    end_s: float
    energy_j: float
    """Of all GPUs."""
    sm_clock_mhz: float | None = None
    """Mean over time and GPUs, as are the other clocks and shares."""
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    """Of the hottest GPU."""
    hbm_w: float | None = None
    """Of all GPUs; part of ``energy_j``."""
    cap_bound: float | None = None
    """Share of the stretch in which the power cap held the clock down."""
    throttled: float | None = None
    """Share of the stretch in which heat or a power brake held the clock down."""
    gpus_j: tuple[float, ...] = ()
    """Of each GPU, in the order of the run's conditions, adding up to ``energy_j``; empty where it is not known."""


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules of the whole run by component, each with its source (``nvml-counter``, ``model:<profile>`` …)."""

    gpu_j: float | None = None
    cpu_j: float | None = None
    dram_j: float | None = None
    idle_j: float | None = None
    """The part of ``gpu_j`` spent while no call was in flight."""
    source: Mapping[str, str] = field(default_factory=dict)
    hbm_j: float | None = None
    """The part of ``gpu_j`` that the GPUs' memory drew."""
    uncertainty_j: Mapping[str, float] = field(default_factory=dict)
    """Half-width of the 95 % interval by component, and of ``integrated``, from ticks, sampling and window; not the
    sensor's own gain."""
    integrated_j: float | None = None
    """``gpu_j`` once more, from sampled power: a cross-check of the counter."""


@dataclass(frozen=True, slots=True)
class PowerCap:
    requested_w: float | None = None
    in_force_w: float | None = None
    bound_fraction: float | None = None
    """Share of the busy time in which the cap held the clock down."""
    attainable: bool | None = None
    """Whether the power could be kept at or below the cap at all."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What held around the GPUs of a measured run, so that another can be compared with it."""

    gpus: tuple[str, ...] = ()
    """UUIDs."""
    gpu_names: tuple[str, ...] = ()
    """What their driver calls them, as many; none in runs of before that was recorded."""
    host: str | None = None
    """The machine that they are in: its CPU, how many there are, and a digest that is the machine's own."""
    driver: str | None = None
    start_temperature_c: float | None = None
    """Of the hottest GPU."""
    end_temperature_c: float | None = None
    sm_clock_mhz: float | None = None
    """Mean over the busy time."""
    locked_clock_mhz: float | None = None
    """The lock in force; ``None`` without one."""
    thermal_s: float | None = None
    """How long heat held the clocks down."""
    brake_s: float | None = None
    """How long a hardware power brake did."""
    bare_w: float | None = None
    """Idle power before the server was started."""
    loaded_w: float | None = None
    """Idle power with the model loaded, before the run."""
    after_w: float | None = None
    """Idle power right after the run."""
    warm_ups: int | None = None
    """Passes made before the run to bring it to its working state."""
    foreign_processes: tuple[int, ...] = ()
    """Processes on these GPUs that are neither ReJoule's nor its server's."""
    sampler: Mapping[str, float] = field(default_factory=dict)
    """``period_s``, ``samples``, and ``cpu_share``: what the sampler took of one core; ``start_s``, when the run began
    by the clock of its file."""
    rejected: tuple[str, ...] = ()
    """Why the run's joules should not be used: throttled by heat, drifting, too short …"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Two runs with equal certificates did the same work, in an order under the same constraints."""

    tier: Tier
    digest: str
    """Of every call with its prompt and its answer, as far as the tier promises that they are equal."""
    exact_calls: int
    violations: tuple[str, ...] = ()
    order: str = ""
    """Of the edges that the replay followed."""
    cached_tokens: int | None = None
    expected_cached_tokens: tuple[int, int] | None = None
    """The least and the most that a prefix cache which never ran out of room can have held."""
    evicted_calls: int | None = None
    """Those that found less than that when blocks may have been evicted; ``None`` where it is not known."""
    work: Account | None = None
    """What became of the trace's work. Runs of older versions do not say; reading them works it out."""
    salted: bool = False
    """Whether a text of the run's own stood in front of every prompt: equal prompts are longer by it, all alike."""


@dataclass(frozen=True)
class Run:
    """One replay of one trace under one configuration: one trial."""

    id: str
    trace: str
    trace_digest: str
    configuration: Configuration
    trial: int
    makespan_s: float
    calls: tuple[CallResult, ...]
    workflows: tuple[WorkflowResult, ...]
    tools: tuple[ToolResult, ...]
    energy: Energy
    power_cap: PowerCap
    certificate: Certificate
    steps: tuple[Step, ...] | None = None
    """``None`` when the engine could not be watched from inside."""
    readings: tuple[Reading, ...] | None = None
    """``None`` without a sampler."""
    conditions: Conditions | None = None
    """``None`` where nothing was measured."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """What the engine said of itself: model, version, effective limits."""
    format_version: int = RUN_FORMAT_VERSION

    @cached_property
    def failed_calls(self) -> tuple[CallResult, ...]:
        return tuple(c for c in self.calls if c.error is not None)

    @property
    def measured(self) -> bool:
        """Whether the joules were measured rather than modelled."""
        return not self.energy.source.get("gpu", "model:").startswith("model:")


def configuration_key(configuration: Configuration) -> str:
    """A configuration's canonical JSON: equal for equal configurations, on any machine and in any version.

    A knob that is younger than stored runs is in it only where it is set.
    """
    given = {f.name: getattr(configuration, f.name) for f in fields(configuration)}
    unset = {name for name, value in _YOUNGER.items() if given[name] == value}
    kept = {name: value for name, value in given.items() if name not in unset}
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode()


_YOUNGER: Final[Mapping[str, Any]] = {
    "policy": None,
    "policy_knows": LEARNED,
    "policy_options": {},
    "batching": CONTINUOUS,
}


def knobs(configuration: Configuration) -> dict[str, Any]:
    """Every knob by name; an engine option ``x`` is ``options.x``, and one of a policy ``policy_options.x``.

    What a policy knows is no knob where there is none.
    """
    grouped = ("options", "policy_options")
    found = {f.name: getattr(configuration, f.name) for f in fields(configuration) if f.name not in grouped}
    if configuration.policy is None:
        del found["policy_knows"]
    return found | {f"{group}.{k}": v for group in grouped for k, v in getattr(configuration, group).items()}
