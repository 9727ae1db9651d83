"""A vLLM worker extension that changes the values of a model's weights in place, on a server that is running.

Only the standard library, torch and vLLM: it runs inside the server, found through ``PYTHONPATH``, and is asked for
by ``--worker-extension-cls weight_values.WeightValues``. Shapes, addresses and CUDA graphs stay as they are.

| values | what they are |
|---|---|
| ``loaded`` | as the checkpoint had them |
| ``shuffled`` | those of each loaded tensor, in a random order |
| ``dummy`` | vLLM's own ``--load-format dummy``: uniform within ±0.001, norms as well, every layer the same |
| ``zeros`` | all 0, norms as well |
| ``normal`` | normal with a standard deviation of 0.02; norms are 1 |
| ``drawn:FILE`` | drawn at random from the tensors of the same role in a smaller model's safetensors file |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import torch

STD: Final = 0.02
COPIED_BYTES: Final = 4 << 30
"""Of models up to this size the loaded values are kept on the GPU."""
CHUNK: Final = 1 << 24
"""Values drawn at a time."""
PARTS: Final = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "lm_head": ("embed_tokens",),
}
"""Tensors of a checkpoint that vLLM keeps as one, or that a smaller model shares."""


class WeightValues:
    """Mixed into vLLM's worker; its methods are called by ``collective_rpc``."""

    weights_loaded: dict[str, torch.Tensor] | None = None
    get_model: Callable[[], Any]

    def set_weights(self, values: str, seed: int = 0) -> dict[str, object]:
        """Gives the weights these values; what they are then, told in a few numbers."""
        with torch.no_grad():
            named = dict(self.get_model().named_parameters())
            size = sum(p.numel() * p.element_size() for p in named.values())
            if self.weights_loaded is None and size <= COPIED_BYTES:
                self.weights_loaded = {name: p.detach().clone() for name, p in named.items()}
            source = torch.Generator(device=next(iter(named.values())).device).manual_seed(seed)
            fill(named, values, source, self.weights_loaded)
            if source.device.type == "cuda":
                torch.cuda.synchronize()
            return {"values": values.partition(":")[0], "bytes": size, **dict(told(named))}


def fill(
    named: dict[str, torch.Tensor], values: str, source: torch.Generator, loaded: dict[str, torch.Tensor] | None
) -> None:
    """Raises ValueError for values that are none, and KeyError where a tensor has no counterpart."""
    kind, _, path = values.partition(":")
    drawn = drawn_from(path) if kind == "drawn" else {}
    for name, tensor in named.items():
        if kind == "zeros":
            tensor.zero_()
        elif kind == "normal":
            tensor.fill_(1.0) if is_norm(name) else tensor.normal_(0.0, STD, generator=source)
        elif kind == "dummy":
            from vllm.model_executor.model_loader.weight_utils import initialize_single_dummy_weight

            initialize_single_dummy_weight(tensor)
        elif kind == "loaded" and loaded is not None:
            tensor.copy_(loaded[name])
        elif kind == "shuffled" and loaded is not None:
            flat = loaded[name].flatten()
            order = torch.randperm(len(flat), generator=source, device=flat.device)
            tensor.copy_(flat[order].view_as(tensor))
        elif kind == "drawn":
            draw(tensor, torch.cat([v.to(tensor) for v in counterparts(name, drawn)]), source)
        else:
            raise ValueError(f"no weights {values!r} for this model")


def draw(tensor: torch.Tensor, pool: torch.Tensor, source: torch.Generator) -> None:
    flat = tensor.view(-1)
    for at in range(0, len(flat), CHUNK):
        part = flat[at : at + CHUNK]
        part.copy_(pool[torch.randint(len(pool), part.shape, generator=source, device=pool.device)])


def drawn_from(path: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: tensor.flatten() for name, tensor in load_file(path).items()}


def counterparts(name: str, drawn: dict[str, torch.Tensor]) -> Iterator[torch.Tensor]:
    """The tensors of the same role; layers beyond the last start over."""
    words = name.split(".")
    layers = 1 + max(int(n.split(".")[2]) for n in drawn if n.startswith("model.layers."))
    inside = "layers" in words
    layer = f"model.layers.{int(words[words.index('layers') + 1]) % layers}." if inside else "model."
    role = words[-2]
    for part in PARTS.get(role, (role,)):
        found = [v for n, v in drawn.items() if n.startswith(layer) and n.endswith(f"{part}.weight")]
        if not found:
            raise KeyError(f"{name} has no counterpart {part}")
        yield from found


def is_norm(name: str) -> bool:
    return "norm" in name.split(".")[-2]


def told(named: dict[str, torch.Tensor]) -> Iterator[tuple[str, float]]:
    """The share of zeros and the standard deviation over all matrices."""
    count = zeros = 0
    total = squares = 0.0
    for tensor in named.values():
        if tensor.ndim < 2:
            continue
        for part in tensor.view(-1).split(CHUNK):
            wide = part.float()
            count += len(wide)
            zeros += int((wide == 0).sum())
            total += float(wide.sum(dtype=torch.float64))
            squares += float(wide.square().sum(dtype=torch.float64))
    mean = total / count
    yield "zeros", zeros / count
    yield "std", max(0.0, squares / count - mean * mean) ** 0.5
