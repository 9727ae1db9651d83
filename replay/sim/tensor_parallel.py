"""A profile of one GPU on several of the same kind, which share each layer's work: measured ones if they ship."""

from __future__ import annotations

from msgspec.structs import replace

from rejoule.replay.sim.links import linked, of_one
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.serving import BLOCK_SIZE, default_serving
from rejoule.replay.sim.shipped import OTHERS, gpu_sheet, shipped_on
from rejoule.traces.errors import RejouleError


def on_gpus(profile: Profile, gpus: int) -> Profile:
    """``profile`` on so many GPUs: of one that ships, what was fitted to so many if that ships too; else ``spread``.

    A profile of as many is itself. Raises RejouleError for one of another number of several GPUs, or where the model
    cannot be split.
    """
    if gpus == profile.tensor_parallel:
        return profile
    return shipped_on(profile, gpus) or spread(profile, gpus)


def spread(profile: Profile, gpus: int) -> Profile:
    """A ``profile`` of one GPU on so many: its constants, from the GPU's data sheet what it does not say of links, and
    KV blocks anew; nothing of it is measured on several. Raises RejouleError as ``on_gpus`` does."""
    if gpus < 1 or profile.tensor_parallel > 1:
        raise RejouleError(
            f"{profile.name} is of {profile.tensor_parallel} GPUs, and tensor_parallel_size is {gpus}",
            f"leave it out, or take a profile of one GPU or of {gpus}" if gpus > 0 else "take 1 or more",
        )
    links = linked(profile, gpu_sheet(profile.gpu.name))
    assumed = "what they exchange is assumed" + (f", but for its own {', '.join(links.own)}" if links.own else "")
    name = f"{profile.name} on {gpus} GPUs"
    tokens = default_serving(name, profile.model, links.gpu, gpus).num_gpu_blocks * BLOCK_SIZE
    return replace(
        replace(profile, **links.parts),
        name=name,
        source=f"{profile.source} Put on {gpus} GPUs, which it was never measured on: {assumed}.",
        calibrated=False,
        serving=replace(profile.serving, num_gpu_blocks=tokens // profile.serving.block_size),
        tensor_parallel=gpus,
        sources=of_one(links.sources) | {"serving.num_gpu_blocks": "what vLLM would choose; see default_serving"},
        # All else is known of one GPU.
        provenance={"base": profile.name} | {k: v for k, v in profile.provenance.items() if k == OTHERS},
        held_out={},
        expected_error=None,
    )
