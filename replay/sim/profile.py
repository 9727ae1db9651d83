"""The constants of one model on one or more GPUs.

A profile says where each of its constants comes from (``sources``) and whether they were fitted to measurements
(``calibrated``) or only derived from data sheets.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from rejoule.traces.seal import content_digest

Count = Annotated[int, Meta(gt=0)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, le=1)]


def _ordered(name: str, value: float, other: str, bound: float) -> None:
    if value > bound:
        raise ValueError(f"{name} is {value:g}, above {other}, which is {bound:g}")


class ModelShape(Struct, frozen=True, forbid_unknown_fields=True):
    """A transformer's size. Parameters are counts; a dense model is one whose ``expert_parameters`` are 0."""

    layers: Count
    hidden_size: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    """Of queries, keys and values; where they differ (MLA), half the sum of a key's and a value's."""
    vocab_size: Count
    parameters: Count
    """All that lie in memory: with embeddings, once if tied, and with all experts."""
    layer_parameters: Count
    """Always read and used: everything, shared experts included, but embeddings, output head and routed experts."""
    bytes_per_weight: Positive
    bytes_per_kv: Positive
    max_model_len: Count
    experts: Count = 1
    """Routed experts of a layer."""
    experts_per_token: Count = 1
    expert_parameters: Annotated[int, Meta(ge=0)] = 0
    """One routed expert, over all layers."""
    kv_lora_rank: Annotated[int, Meta(ge=0)] = 0
    """Width of the latent that multi-head latent attention caches; 0 is ordinary attention."""
    rope_head_dim: Annotated[int, Meta(ge=0)] = 0
    """Width of the rotary key that latent attention caches beside it."""
    attention_layers: Count | None = None
    """Layers whose cache grows with the context; ``None`` is all. Linear-attention layers are not counted."""

    def __post_init__(self) -> None:
        _ordered("kv_heads", self.kv_heads, "heads", self.heads)
        _ordered("experts_per_token", self.experts_per_token, "experts", self.experts)
        _ordered("attention_layers", self.attention_layers or 1, "layers", self.layers)
        _ordered("layer_parameters", self.layer_parameters, "parameters", self.parameters)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses, without the output head."""
        return self.layer_parameters + self.experts_per_token * self.expert_parameters

    @property
    def head_parameters(self) -> int:
        """Parameters of the output head."""
        return self.hidden_size * self.vocab_size

    @property
    def caching_layers(self) -> int:
        """Layers that keep keys and values."""
        return self.layers if self.attention_layers is None else self.attention_layers

    @property
    def kv_bytes_per_token(self) -> float:
        """Keys and values of one token, over all layers, in bytes."""
        width = self.kv_lora_rank + self.rope_head_dim if self.kv_lora_rank else 2 * self.kv_heads * self.head_dim
        return self.caching_layers * width * self.bytes_per_kv

    @property
    def decode_pair_width(self) -> float:
        """Multiply-adds of one query with one cached token, per head: twice ``head_dim``, or in the latent of MLA."""
        return 2 * self.kv_lora_rank + self.rope_head_dim if self.kv_lora_rank else 2 * self.head_dim

    def kv_split(self, gpus: int) -> int:
        """Over how many of ``gpus`` tensor-parallel GPUs the cache of a token is split; a latent lies on each."""
        return 1 if self.kv_lora_rank else min(gpus, self.kv_heads)


class Gpu(Struct, frozen=True, forbid_unknown_fields=True):
    """What the data sheet and the driver say of one GPU."""

    name: str
    peak_flops: Positive
    """Dense, of the type that the model computes in."""
    hbm_bytes_per_s: Positive
    memory_bytes: Positive
    min_clock_mhz: Count
    max_clock_mhz: Count
    clock_step_mhz: Count
    min_power_limit_w: Positive
    max_power_limit_w: Positive
    default_power_limit_w: Positive
    link_bytes_per_s: Positive | None = None
    """To the other GPUs, in one direction; ``None`` allows no tensor parallelism."""
    link: Literal["nvlink", "peer", "host"] = "nvlink"
    """What joins them: NVLink each to each, PCIe by which they reach each other's memory, or the host's memory."""

    def __post_init__(self) -> None:
        _ordered("min_clock_mhz", self.min_clock_mhz, "max_clock_mhz", self.max_clock_mhz)
        _ordered("min_power_limit_w", self.min_power_limit_w, "default_power_limit_w", self.default_power_limit_w)
        _ordered("default_power_limit_w", self.default_power_limit_w, "max_power_limit_w", self.max_power_limit_w)


class Timing(Struct, frozen=True, forbid_unknown_fields=True):
    """Efficiencies and overheads of the soft roofline, in seconds where not shares."""

    compute_efficiency: Share
    """Share of the peak that matrix products reach, and attention too without ``attention_efficiency``."""
    memory_efficiency: Share
    memory_knee: Annotated[float, Meta(ge=0, le=1)]
    """Clock, as a share of the greatest, below which the SMs cannot ask for all that the memory could give."""
    overlap_norm: Annotated[float, Meta(ge=1)]
    per_layer_s: NonNegative
    per_request_s: NonNegative
    per_step_s: NonNegative
    host_per_step_s: NonNegative
    host_per_request_s: NonNegative
    host_prefill_s: NonNegative = 0.0
    """What the host needs longer for a step with prompts, which is one CUDA graph a layer."""
    host_eager_s: NonNegative = 0.0
    """The same where the step has more tokens than any captured graph, so that each kernel is launched by itself."""
    host_serial_s: NonNegative | None = None
    """What the host does for a step while the GPU waits, unless it schedules asynchronously, beside
    ``host_per_request_s``; ``None`` is ``host_per_step_s``: nothing is hidden."""
    host_first_s: NonNegative = 0.0
    """What a step takes longer before which the GPU had nothing to do."""
    attention_efficiency: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of the peak that attention reaches; 0 is ``compute_efficiency``."""
    cache_efficiency: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of the bandwidth at which keys and values are read and written; 0 is ``memory_efficiency``."""
    all_reduce_s: NonNegative = 0.0
    """Latency of an all-reduce by vLLM's own kernel in one shot; see ``all_reduce``."""
    all_reduce_efficiency: Share = 1.0
    """Share of the link's rate that it reaches, as are those below."""
    two_shot_s: NonNegative | None = None
    """Latency of one in two shots; ``None`` is ``all_reduce_s``."""
    two_shot_efficiency: Share = 1.0
    nccl_s: NonNegative | None = None
    """Latency of one by NCCL; ``None`` is ``all_reduce_s``."""
    nccl_efficiency: Share = 1.0
    host_workers_s: NonNegative = 0.0
    """What each step takes the host longer where several GPUs have a process each, which are told of it and tell."""
    host_all_reduce_s: NonNegative = 0.0
    """What the host needs longer for each all-reduce of a step without CUDA graphs."""
    api_per_request_s: NonNegative = 0.0
    """Between a client and the scheduler, of each request; hidden from the GPU."""
    api_per_token_s: NonNegative = 0.0
    """The same, of each prompt token."""
    api_crowd_s: NonNegative = 0.0
    """What each request makes others wait that are underway at the same time; see ``api``."""
    api_answer_s: NonNegative = 0.0
    """From the end of a step until its tokens are with the clients; hidden from the GPU."""
    api_per_output_s: NonNegative = 0.0
    """The same, of each request that has a token of the step."""
    api_per_echoed_token_s: NonNegative = 0.0
    """The same, of each token of the prompts whose first token the step gave: prompts are sent back with it."""


class PowerCurve(Struct, frozen=True, forbid_unknown_fields=True):
    """Coefficients of P(f) of one GPU, in watts; see ``power``."""

    idle_w: NonNegative
    memory_w: NonNegative
    awake_w: NonNegative
    compute_w: NonNegative
    traffic_w: NonNegative
    knee: Annotated[float, Meta(ge=0, le=1)]
    """Clock, as a share of the greatest, above which voltage rises by ``voltage_slope``."""
    voltage_slope: NonNegative
    voltage_sag: NonNegative = 0.0
    """By how much voltage falls below the knee, as a share of that at the knee for all of the greatest clock."""
    floor: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Clock, as a share of the greatest, below which voltage falls no further."""
    cache_w: NonNegative = 0.0
    """Of the SMs while keys and values are read, beside ``traffic_w``: attention keeps them busier than weights do."""
    link_w: NonNegative = 0.0
    """Of the SMs while GPUs exchange or wait for each other: kernels ask again and again whether others are there."""
    cap_window_s: NonNegative = 0.0
    """Time constant of the mean that a power cap acts on; 0 caps each step by itself."""
    cap_peak: NonNegative = 0.0
    """What a step may draw while that mean is below the cap, as a multiple of it, from 1; 0 is no limit."""

    def __post_init__(self) -> None:
        if 0 < self.cap_peak < 1:
            raise ValueError(f"cap_peak is {self.cap_peak:g}: a multiple of the cap from 1, or 0 for no limit")
        if self.voltage_sag * max(0.0, self.knee - self.floor) >= 1:
            raise ValueError(f"voltage_sag is {self.voltage_sag:g}: at the floor no voltage would be left")


class CurveWidth(Struct, frozen=True, forbid_unknown_fields=True):
    """By how much figures differ, relative, between the curves that are possible, under one cap or clock lock."""

    at: Positive
    """Watts of a cap, or MHz of a lock."""
    metrics: dict[str, NonNegative]
    """By figure, as ``ExpectedError.metrics``: the most by which its ratio to that of no cap differs."""


class ClockCurve(Struct, frozen=True, forbid_unknown_fields=True):
    """How the power curve's dependence on the clock was found, and what it may be off by where it was not measured."""

    basis: Literal["assumed", "measured"]
    source: str
    known_from_w: Positive
    """Under caps from here on, clocks were measured or never fall: nothing is assumed there."""
    known_from_mhz: Positive
    """The same of clock locks."""
    own_card: bool = False
    """Whether its power was measured on the GPU that it is used for, as `rejoule calibrate` does."""
    low: dict[str, float] = {}
    """Constants of the power curve that differ if voltage falls as far as may be."""
    high: dict[str, float] = {}
    """The same if it falls as little as may be."""
    caps: tuple[CurveWidth, ...] = ()
    """Ascending, for each GPU; between them, and up to ``known_from_w``, where it is nothing, the width is linear."""
    clocks: tuple[CurveWidth, ...] = ()
    """The same of clock locks, up to ``known_from_mhz``."""

    def __post_init__(self) -> None:
        for name, widths in (("caps", self.caps), ("clocks", self.clocks)):
            if [width.at for width in widths] != sorted({width.at for width in widths}):
                raise ValueError(f"{name} of the clock curve are not in ascending order")


class Serving(Struct, frozen=True, forbid_unknown_fields=True):
    """vLLM's defaults for this model on these GPUs."""

    block_size: Count
    num_gpu_blocks: Count
    max_num_seqs: Count
    max_num_batched_tokens: Count
    graph_sizes: tuple[Count, ...]
    """Decode batches that CUDA graphs were captured for, ascending; smaller ones are padded to the next."""

    def __post_init__(self) -> None:
        if list(self.graph_sizes) != sorted(set(self.graph_sizes)):
            raise ValueError("graph_sizes are not in ascending order")


class DifferenceError(Struct, frozen=True, forbid_unknown_fields=True):
    """By how much ratios between two configurations were off, relative."""

    median: NonNegative
    p95: NonNegative
    """Which 95 of 100 did not exceed."""
    worst: NonNegative


class OptionError(Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of differences in one option of the engine, against its default."""

    values: tuple[bool | int | str, ...]
    """That were measured; of numbers, those between are taken to be known as well."""
    workloads: tuple[str, ...]
    """On which predicted ratios were held against measured ones."""
    metrics: dict[str, DifferenceError]
    """By figure, as ``ExpectedError.metrics``."""


class FigureError(Struct, frozen=True, forbid_unknown_fields=True):
    """By how much figures themselves were off, relative, whatever their sign."""

    mean: NonNegative
    worst: NonNegative


class ExpectedError(Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of the differences that a profile predicts, and maybe of its figures."""

    source: str
    knobs: tuple[str, ...]
    """What the configurations differed in; of differences in other knobs nothing is known."""
    differences: Count
    """That predicted ratios of GPU energy were held against."""
    metrics: dict[str, DifferenceError]
    """By figure, as ``rejoule diff`` names its rows; all nodes together are ``joules by node``."""
    options: dict[str, OptionError] = {}
    """By the engine's option: those that were turned while everything else stayed as it is by default."""
    found_on: str | None = None
    """The GPU and model whose profiles, put together alike, were off by so much: an example, not a bound. ``None``
    where it was this very profile."""
    figures: dict[str, FigureError] = {}
    """By figure, as ``rejoule validate`` names its rows: of one configuration by itself."""
    figures_on: str | None = None
    """As ``found_on``, of ``figures``, where these were found on more than the differences."""


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that the simulator knows about one model on one GPU, or on several with tensor parallelism."""

    name: str
    source: str
    calibrated: bool
    model: ModelShape
    gpu: Gpu
    timing: Timing
    power: PowerCurve
    serving: Serving
    tensor_parallel: Count = 1
    sources: dict[str, str] = {}
    """Where each constant comes from."""
    provenance: dict[str, str] = {}
    """Of a calibrated profile: machine, versions, data and its date."""
    held_out: dict[str, float] = {}
    """Of a calibrated profile: relative error by metric, on runs that it was not fitted to."""
    expected_error: ExpectedError | None = None
    """Of the differences that it predicts; ``None`` where none were held against measurements."""
    clock_curve: ClockCurve | None = None
    """What is known of figures under caps and clock locks; ``None`` where nobody said."""


def profile_digest(profile: Profile) -> str:
    """Of all that a simulation, or what is said of its joules, depends on: not of names and sources."""
    body = msgspec.to_builtins(profile)
    return content_digest({name: value for name, value in body.items() if name not in TOLD})


def fitted_to(profile: Profile) -> dict[str, list[str]]:
    """The cards, by UUID, and the hosts that a profile was fitted to; none are named by one from data sheets."""
    told = profile.provenance
    split = (("gpus", "gpus", ", "), ("hosts", "host", "; "))
    return {name: told[key].split(between) if told.get(key) else [] for name, key, between in split}


TOLD: Final = ("name", "source", "sources", "provenance", "held_out")
"""What of a profile is for people."""
