"""Makes a model folder of a shipped shape for dummy weights: python -m benchmarks.gpu.shape MODEL SHAPE OUT.

SHAPE is one of ReJoule's models that are dense, such as qwen3-32b. The tokenizer is that of the folder MODEL, which may
have fewer words: recorded traces hold its ids, and a replay asks for no others. The configuration is made from the
profile's sizes, so that as many weights are loaded and read as the simulator counts.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from rejoule.replay.sim.profile import ModelShape
from rejoule.replay.sim.shipped import FOLDER, compose

ON: Final = "h200-data-sheet"
"""Any GPU that holds the models: only their shapes are read."""
KINDS: Final = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}
NORMED: Final = frozenset({"qwen3"})
"""Architectures that normalise queries and keys."""


def config(name: str) -> dict[str, Any]:
    """What ``config.json`` says of a shape. Raises SystemExit for one that is not dense, or of another architecture."""
    kind = name.partition("-")[0]
    if name not in {path.stem for path in (FOLDER / "models").glob("*.json")} or kind not in KINDS:
        sys.exit(f"no shape {name}: take a dense one of {', '.join(KINDS)}")
    model = compose(ON, name).model
    if model.experts > 1:
        sys.exit(f"{name} has experts: take a dense shape")
    return {
        "architectures": [KINDS[kind]],
        "model_type": kind,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
        "attention_bias": False,
        "initializer_range": 0.02,
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden_size,
        "intermediate_size": intermediate(model, kind in NORMED),
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "max_position_embeddings": model.max_model_len,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }


def attention(model: ModelShape, normed: bool) -> int:
    """Parameters of a layer that are not of its three matrices of the feed-forward part."""
    projections = 2 * model.hidden_size * (model.heads + model.kv_heads) * model.head_dim
    return projections + 2 * model.hidden_size + (2 * model.head_dim if normed else 0)


def intermediate(model: ModelShape, normed: bool) -> int:
    """The width of the feed-forward part, from how many parameters are left for it; the last norm is no layer's."""
    each = (model.layer_parameters - model.hidden_size) // model.layers - attention(model, normed)
    return each // (3 * model.hidden_size)


def make(source: Path, name: str, out: Path) -> None:
    told = config(name)
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.glob("tokenizer*")):
        shutil.copy(file, out / file.name)
    known = source / "config.json"
    if known.is_file():
        told |= {
            key: value
            for key, value in json.loads(known.read_bytes()).items()
            if key in ("bos_token_id", "eos_token_id")
        }
    (out / "config.json").write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    make(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
