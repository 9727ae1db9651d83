"""Profiles by name: complete ones, and those that are put together from a GPU and a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from rejoule.replay.sim.links import linked, of_one
from rejoule.replay.sim.profile import (
    ClockCurve,
    ExpectedError,
    Gpu,
    ModelShape,
    NonNegative,
    PowerCurve,
    Profile,
    Timing,
)
from rejoule.replay.sim.serving import default_serving
from rejoule.traces.decoding import DamagedError, decoded
from rejoule.traces.errors import RejouleError

FOLDER: Final = Path(__file__).resolve().parent.parent / "profiles"
UNCALIBRATED: Final = FOLDER / "errors" / "uncalibrated.json"
"""How far off profiles were that were put together from data sheets: ``python -m benchmarks.data_sheets --write``."""
OTHERS: Final = "fitted to other models"
"""Of a profile's ``provenance``: to which, where none of them is its own."""
TOGETHER: Final = "fitted to several models"
"""The same, where its own is among them."""
_Kind = TypeVar("_Kind")


class GpuFile(Struct, frozen=True, forbid_unknown_fields=True):
    """``profiles/gpus``: a GPU, and what is assumed of any model on it; or what was fitted to several models on it."""

    source: str
    gpu: Gpu
    timing: Timing
    power: PowerCurve
    sources: dict[str, str]
    clock_curve: ClockCurve | None = None
    calibrated: bool = False
    layer: dict[str, NonNegative] = {}
    """By constant of ``timing``: what each layer of a model adds to it. A kernel that is launched is one of a layer."""
    provenance: dict[str, str] = {}
    expected_error: ExpectedError | None = None
    """What profiles that are put together of it were off by where it was not fitted; ``None`` where nobody measured."""

    def __post_init__(self) -> None:
        for name in self.layer:
            if not isinstance(getattr(self.timing, name, None), float | int):
                raise ValueError(f"layer has {name}, which is no constant that the timing has")

    def timing_of(self, model: ModelShape) -> Timing:
        """The constants of ``timing`` with a model's layers."""
        return replace(
            self.timing, **{name: getattr(self.timing, name) + each * model.layers for name, each in self.layer.items()}
        )


class _ModelFile(Struct, frozen=True, forbid_unknown_fields=True):
    """``profiles/models``."""

    source: str
    model: ModelShape


def names() -> list[str]:
    """The complete profiles that ship with this package."""
    return _stems(FOLDER)


def gpu_names() -> list[str]:
    """GPUs that a profile can be put together from."""
    return _stems(FOLDER / "gpus")


def model_names() -> list[str]:
    """Models that a profile can be put together from."""
    return _stems(FOLDER / "models")


def load_profile(name: str) -> Profile:
    """A profile by the path of its JSON file, by the name of a complete one, or as ``GPU-MODEL`` or ``GPU-MODEL-tpN``,
    where GPU may also be the path, without its ``.json``, of a GPU's file that ``rejoule calibrate`` made.

    Raises RejouleError for an unknown name, a spoilt file, or a model that does not fit the GPUs' memory.
    """
    path = Path(name) if name.endswith(".json") else FOLDER / f"{name}.json"
    if path.is_file():
        return _complete(path)
    split = re.fullmatch(r"(.+)-tp([1-9]\d*)", name, re.DOTALL)
    pair, gpus = (split[1], int(split[2])) if split else (name, 1)
    for model in model_names():
        gpu = pair.removesuffix(f"-{model}")
        if gpu != pair and gpu in gpu_names():
            return compose(gpu, model, gpus)
        if gpu != pair and Path(f"{gpu}.json").is_file():
            return put_together(Path(gpu).name, _read(Path(f"{gpu}.json"), GpuFile), model, gpus)
    raise RejouleError(
        f"no profile {name!r}",
        "take GPU-MODEL or GPU-MODEL-tpN, such as h200-llama-3.1-8b or a100-llama-3.1-70b-tp4, with a GPU of "
        f"{', '.join(gpu_names())}, or the path of a GPU's file without its .json, and a model of "
        f"{', '.join(model_names())}; or the path of a profile's JSON file",
    )


def compose(gpu_name: str, model_name: str, tensor_parallel: int = 1) -> Profile:
    """A profile from a shipped GPU and a shipped model, with vLLM's defaults for the two; uncalibrated but where the
    GPU's constants were fitted.

    Raises RejouleError where the model does not fit, or cannot be split over so many GPUs.
    """
    gpu = _read(FOLDER / "gpus" / f"{gpu_name}.json", GpuFile)
    return put_together(gpu_name, gpu, model_name, tensor_parallel)


def put_together(gpu_name: str, gpu: GpuFile, model_name: str, tensor_parallel: int = 1) -> Profile:
    """``compose`` with any GPU; what was fitted to models on it counts as calibrated, on one of it. What it does not
    say of links is its data sheet's."""
    model = _read(FOLDER / "models" / f"{model_name}.json", _ModelFile)
    alone = tensor_parallel == 1
    if not alone:
        gpu = replace(gpu, **linked(gpu, gpu_sheet(gpu.gpu.name)).parts)
        gpu = replace(gpu, sources=of_one(gpu.sources)) if gpu.provenance else gpu
    name = f"{gpu_name}-{model_name}" + ("" if alone else f"-tp{tensor_parallel}")
    return Profile(
        name=name,
        source=f"{gpu.source} {model.source}",
        calibrated=gpu.calibrated and alone,
        model=model.model,
        gpu=gpu.gpu,
        timing=gpu.timing_of(model.model),
        power=gpu.power,
        serving=default_serving(name, model.model, gpu.gpu, tensor_parallel),
        tensor_parallel=tensor_parallel,
        sources={"model": model.source, **gpu.sources, "serving": "vLLM V1's defaults; see default_serving"},
        provenance=gpu.provenance | _fitted_to(gpu, model_name),
        # Of tensor parallelism no example is known.
        expected_error=_example(gpu) if alone else None,
        clock_curve=gpu.clock_curve,
    )


def _example(gpu: GpuFile) -> ExpectedError | None:
    """What is known of profiles that are put together of it: of what was fitted to measurements, its own alone."""
    return gpu.expected_error if gpu.provenance else _read(UNCALIBRATED, ExpectedError)


def _fitted_to(gpu: GpuFile, model_name: str) -> dict[str, str]:
    """That what was fitted is of other models, or of this one and others, if so."""
    fitted = gpu.provenance.get("base", "")
    models = [_model_of(base) for base in fitted.split(", ")] if fitted else []
    if model_name in models:
        return {TOGETHER: ", ".join(models)} if len(models) > 1 else {}
    return {OTHERS: ", ".join(models)} if models else {}


def _model_of(profile: str) -> str:
    """The shipped model of a profile that was put together, by its name; of any other, the name."""
    return max((model for model in model_names() if profile.endswith(f"-{model}")), key=len, default=profile)


def worth_of(profile: Profile) -> dict[str, Any]:
    """What every run on a profile states, so that its readers know what simulated figures are worth."""
    return {
        "calibrated": profile.calibrated,
        "fitted_to_others": profile.provenance.get(OTHERS),
        "fitted_together": profile.provenance.get(TOGETHER),
        "gpus": profile.tensor_parallel,
        "expected_error": msgspec.to_builtins(profile.expected_error),
    }


def shipped_on(profile: Profile, gpus: int) -> Profile | None:
    """The profile that ships and was fitted to so many GPUs, of a ``profile`` that ships as it is; else ``None``."""
    several = f"{profile.name}-tp{gpus}"
    shipped = names()
    if profile.name not in shipped or several not in shipped or load_profile(profile.name) != profile:
        return None
    return load_profile(several)


def gpu_sheet(name: str) -> GpuFile | None:
    """What ships by data sheets of the GPU that its driver calls ``name``; ``None`` where nothing does."""
    sheets = (_read(FOLDER / "gpus" / f"{stem}.json", GpuFile) for stem in gpu_names())
    return next((sheet for sheet in sheets if sheet.gpu.name == name and not sheet.provenance), None)


def _complete(path: Path) -> Profile:
    try:
        return _read(path, Profile)
    except RejouleError:
        try:
            _read(path, GpuFile)
        except RejouleError:
            pass
        else:
            typed = path.with_suffix("")
            raise RejouleError(
                f"{path} is of a GPU, and of no model", f"name a model with it, as in {typed}-llama-3.1-8b"
            ) from None
        raise


def _read(path: Path, kind: type[_Kind]) -> _Kind:
    """A JSON file, with one clear error for what is missing, unknown or of the wrong type or size."""
    try:
        return decoded(path.read_bytes(), msgspec.json.Decoder(kind).decode)
    except DamagedError as error:
        raise RejouleError(f"{path}: {error}", "compare it with a shipped profile, or take one") from None
    except OSError as error:
        raise RejouleError(f"cannot read {path}: {error.strerror}", "give a profile that you may read") from None


def _stems(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.json"))
