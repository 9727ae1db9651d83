"""The constants of one model on one GPU, from a JSON file.

A profile says where each of its constants comes from (``sources``) and whether they were fitted to measurements
(``calibrated``) or only derived from data sheets.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import orjson

from rejoule.traces.errors import RejouleError

FOLDER = Path(__file__).resolve().parent.parent / "profiles"


@dataclass(frozen=True)
class ModelShape:
    """A transformer's size. Parameters are counts; a dense model is one whose ``expert_parameters`` are 0."""

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    parameters: int
    layer_parameters: int
    """Always read and used: everything except embeddings, output head and routed experts."""
    bytes_per_weight: float
    bytes_per_kv: float
    max_model_len: int
    experts: int = 1
    experts_per_token: int = 1
    expert_parameters: int = 0
    """One routed expert, over all layers."""

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses, without the output head."""
        return self.layer_parameters + self.experts_per_token * self.expert_parameters

    @property
    def head_parameters(self) -> int:
        """Parameters of the output head."""
        return self.hidden_size * self.vocab_size

    @property
    def kv_bytes_per_token(self) -> float:
        """Keys and values of one token, over all layers, in bytes."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.bytes_per_kv


@dataclass(frozen=True)
class Gpu:
    """What the data sheet says."""

    name: str
    peak_flops: float
    hbm_bytes_per_s: float
    memory_bytes: float
    min_clock_mhz: int
    max_clock_mhz: int
    clock_step_mhz: int
    min_power_limit_w: float
    max_power_limit_w: float
    default_power_limit_w: float


@dataclass(frozen=True)
class Timing:
    """Efficiencies and overheads of the soft roofline, in seconds where not shares."""

    compute_efficiency: float
    memory_efficiency: float
    memory_knee: float
    """Clock, as a share of the greatest, below which the SMs cannot ask for all that the memory could give."""
    overlap_norm: float
    per_layer_s: float
    per_request_s: float
    per_step_s: float
    host_per_step_s: float
    host_per_request_s: float


@dataclass(frozen=True)
class PowerCurve:
    """Coefficients of P(f), in watts; see ``power``."""

    idle_w: float
    memory_w: float
    awake_w: float
    compute_w: float
    traffic_w: float
    knee: float
    """Clock, as a share of the greatest, above which voltage rises."""
    voltage_slope: float


@dataclass(frozen=True)
class Serving:
    """vLLM's defaults for this model on this GPU."""

    block_size: int
    num_gpu_blocks: int
    max_num_seqs: int
    max_num_batched_tokens: int
    graph_sizes: tuple[int, ...]
    """Decode batches that CUDA graphs were captured for; smaller ones are padded to the next."""


@dataclass(frozen=True)
class Profile:
    """Everything that the simulator knows about one model on one GPU."""

    name: str
    source: str
    calibrated: bool
    model: ModelShape
    gpu: Gpu
    timing: Timing
    power: PowerCurve
    serving: Serving
    sources: dict[str, str] = field(default_factory=dict, hash=False)


def names() -> list[str]:
    """The profiles that ship with this package."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load_profile(name: str) -> Profile:
    """A shipped profile by its name, or any by the path of its JSON file."""
    path = Path(name) if name.endswith(".json") else FOLDER / f"{name}.json"
    if not path.is_file():
        raise RejouleError(f"no profile {name!r}", f"take one of {', '.join(names())}, or the path of a JSON file")
    try:
        raw = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise RejouleError(f"{path} is not JSON: {error}", "restore it, or take a shipped profile") from error
    profile = _build(Profile, raw, str(path), "")
    assert isinstance(profile, Profile)
    return profile


def _build(kind: type[Any], raw: object, path: str, place: str) -> Any:
    """``raw`` as a dataclass, with one clear error for what is missing, unknown or of the wrong type."""
    if not isinstance(raw, dict):
        raise RejouleError(f"{path}: {place or 'the file'} is not an object", "compare it with a shipped profile")
    hints = get_type_hints(kind)
    required = {f.name for f in fields(kind) if f.name not in _optional(kind)}
    wrong = sorted((required - raw.keys()) | (raw.keys() - hints.keys()))
    if wrong:
        what = "misses" if wrong[0] in required else "has an unknown"
        raise RejouleError(f"{path}: {what} {place}{wrong[0]}", "compare it with a shipped profile")
    values: dict[str, Any] = {}
    for key, value in raw.items():
        hint = hints[key]
        if is_dataclass(hint):
            value = _build(hint, value, path, f"{place}{key}.")  # type: ignore[arg-type]
        elif hint in (int, float, str, bool):
            # Python counts True as an integer; a profile does not.
            fits = isinstance(value, (int, float) if hint is float else hint) and (hint is bool) == isinstance(
                value, bool
            )
            if not fits:
                raise RejouleError(f"{path}: {place}{key} is not {hint.__name__}", "compare it with a shipped profile")
        elif isinstance(value, list):
            value = tuple(value)
        values[key] = value
    return kind(**values)


def _optional(kind: type[Any]) -> set[str]:
    return {f.name for f in fields(kind) if f.default is not MISSING or f.default_factory is not MISSING}
