"""What grids of one model and of several say of their GPU: constants, with how well each is known, of which any
model's profile is put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from benchmarks.gpu.sensors import row
from benchmarks.sizes import CUT, GPU, LARGE, SMALL
from benchmarks.sizes_measured.parts import SHORT
from benchmarks.validation import PROFILE
from msgspec.structs import replace

from rejoule.replay.calibration.calibrate import MEMORY_SOURCE, UNDETERMINED, calibrate
from rejoule.replay.calibration.sizes import LAYER, LAYERED, SHARED, Size, calibrate_gpu
from rejoule.replay.sim.links import linked
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import GpuFile, compose, gpu_sheet, load_profile, put_together
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Run

FITS: Final = ((SMALL,), (CUT,), (LARGE,), (SMALL, CUT), (SMALL, LARGE), (SMALL, CUT, LARGE))
"""By the models whose grids are fitted together."""
SHEET: Final = "data sheet"
SHIPPED: Final = "8B of another card, as it ships"
SHOWN: Final = (
    *(f"timing.{name}" for name in dict.fromkeys(("memory_efficiency", "cache_efficiency", *SHARED))),
    *(f"{LAYER}{name}" for name in LAYERED),
    *(f"power.{name}" for name in ("idle_w", "awake_w", "memory_w", "traffic_w", "cache_w", "compute_w")),
)


@dataclass(frozen=True, slots=True)
class Constants:
    """A GPU's constants, by one way to come by them."""

    words: str
    file: GpuFile
    known: Mapping[str, float]
    """Relative standard errors; of those that were not fitted here, none."""
    notes: tuple[str, ...] = ()

    def profile(self, model: str) -> Profile:
        return put_together("fit", self.file, model)

    def value(self, name: str) -> float | None:
        """``None`` where it is not told apart from others."""
        part, _, field = name.partition(".")
        told = self.file.layer if part == "layer" else msgspec.structs.asdict(getattr(self.file, part))
        return told.get(field) or None


def constants(grids: Mapping[str, Sequence[Run]]) -> tuple[list[Constants], list[str]]:
    """All ways that the ``grids``, by model, allow, from the least that is known to the most; and what was left out."""
    ways = [
        Constants(SHEET, _file(compose(GPU, SMALL)), {}),
        Constants(SHIPPED, _file(load_profile(PROFILE)), {}),
    ]
    left_out = []
    for models in FITS:
        if missing := [SHORT[model] for model in models if model not in grids]:
            left_out.append(f"not fitted to {words_of(models)}: no grid of {' and '.join(missing)}")
            continue
        try:
            ways.append(fitted({model: grids[model] for model in models}))
        except RejouleError as error:
            left_out.append(f"not fitted to {words_of(models)}: {error}")
    return ways, left_out


def fitted(grids: Mapping[str, Sequence[Run]]) -> Constants:
    """As ``rejoule calibrate`` fits one model, or several."""
    words = words_of(tuple(grids))
    sizes = [Size(base(model), runs) for model, runs in grids.items()]
    if len(sizes) > 1:
        several = calibrate_gpu(words, sizes)
        return Constants(words, several.file, several.known, several.notes)
    alone = calibrate(sizes[0].base, words, sizes[0].runs)
    return Constants(words, _file(alone.profile), alone.known, alone.notes)


def base(model: str) -> Profile:
    """Where a fit begins, and for which its grid was made: what ships fitted to the 8B alone, else the data sheet."""
    if model != SMALL:
        return compose(GPU, model)
    known = load_profile(PROFILE)
    return replace(known, **linked(known, gpu_sheet(known.gpu.name)).parts)


def words_of(models: Sequence[str]) -> str:
    return " + ".join(SHORT[model] for model in models)


def _file(profile: Profile) -> GpuFile:
    """The constants of one model's profile, as if they were its GPU's: nothing is told to be of layers."""
    return GpuFile(
        profile.source, profile.gpu, profile.timing, profile.power, profile.sources, profile.clock_curve,
        profile.calibrated, provenance=profile.provenance,
    )  # fmt: skip


def table(ways: Sequence[Constants]) -> Iterator[str]:
    """Each constant by each way, with its relative standard error."""
    yield row("constant", *(way.words for way in ways))
    yield row("---", *["--:"] * len(ways))
    for name in SHOWN:
        yield row(name, *(_shown(way, name) for way in ways))


def _shown(way: Constants, name: str) -> str:
    value = way.value(name)
    if value is None:
        return "–"
    error = way.known.get(name)
    if error is None:
        return f"{value:.3g}, sensor" if way.file.sources.get(name) == MEMORY_SOURCE else f"{value:.3g}"
    return f"{value:.3g}, n. d." if error > UNDETERMINED else f"{value:.3g} ± {error:.1%}"


def ideal(profile: Profile) -> Profile:
    """As if all of the peak and the bandwidth of the data sheet were reached, and nothing else took time."""
    whole = dict.fromkeys(("memory_efficiency", "cache_efficiency", "compute_efficiency", "attention_efficiency"), 1.0)
    return replace(profile, timing=replace(profile.timing, **whole))
