"""A profile of one GPU on several of the same kind, which share each layer's work: measured ones if they ship."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.serving import BLOCK_SIZE, default_serving
from rejoule.replay.sim.shipped import gpu_sheet, shipped_on
from rejoule.traces.errors import RejouleError

LINKS: Final = (
    "all_reduce_s",
    "all_reduce_efficiency",
    "two_shot_s",
    "two_shot_efficiency",
    "nccl_s",
    "nccl_efficiency",
    "host_workers_s",
    "host_all_reduce_s",
)
"""Times that one GPU alone shows nothing of."""
ALONE: Final = "of one GPU: "
"""How the source of a constant begins that was fitted to one GPU by itself, and stays."""


def on_gpus(profile: Profile, gpus: int) -> Profile:
    """``profile`` on so many GPUs: of one that ships, what was fitted to so many if that ships too; else ``spread``.

    A profile of as many is itself. Raises RejouleError for one of another number of several GPUs, or where the model
    cannot be split.
    """
    if gpus == profile.tensor_parallel:
        return profile
    return shipped_on(profile, gpus) or spread(profile, gpus)


def spread(profile: Profile, gpus: int) -> Profile:
    """A ``profile`` of one GPU on so many: its constants, those of their links from the GPU's data sheet, and KV blocks
    anew; nothing of it is measured on several. Raises RejouleError as ``on_gpus`` does."""
    if gpus < 1 or profile.tensor_parallel > 1:
        raise RejouleError(
            f"{profile.name} is of {profile.tensor_parallel} GPUs, and tensor_parallel_size is {gpus}",
            f"leave it out, or take a profile of one GPU or of {gpus}" if gpus > 0 else "take 1 or more",
        )
    sheet = gpu_sheet(profile.gpu.name)
    timing, power = profile.timing, profile.power
    sources = {name: f"{ALONE}{text}" if text.startswith("fitted") else text for name, text in profile.sources.items()}
    gpu = profile.gpu
    if sheet is not None:
        timing = replace(timing, **{name: getattr(sheet.timing, name) for name in LINKS})
        power = replace(power, link_w=sheet.power.link_w)
        gpu = replace(gpu, link_bytes_per_s=gpu.link_bytes_per_s or sheet.gpu.link_bytes_per_s, link=sheet.gpu.link)
        told = (*(f"timing.{name}" for name in LINKS), "power.link_w", "gpu.link")
        sources |= {name: sheet.sources[name] for name in told if name in sheet.sources}
    name = f"{profile.name} on {gpus} GPUs"
    blocks = default_serving(name, profile.model, gpu, gpus).num_gpu_blocks * BLOCK_SIZE // profile.serving.block_size
    return replace(
        profile,
        name=name,
        source=f"{profile.source} Put on {gpus} GPUs, which it was never measured on: what they exchange is assumed.",
        calibrated=False,
        gpu=gpu,
        timing=timing,
        power=power,
        serving=replace(profile.serving, num_gpu_blocks=blocks),
        tensor_parallel=gpus,
        sources=sources | {"serving.num_gpu_blocks": "what vLLM would choose; see default_serving"},
        # Known of one GPU.
        provenance={"base": profile.name},
        held_out={},
        expected_error=None,
    )
