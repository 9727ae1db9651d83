"""Writes a model folder that vLLM serves with dummy weights: a small Llama's shape, a tokenizer, a chat template.

``python tiny_model.py FOLDER`` needs the package tokenizers, which vLLM brings.
"""

from __future__ import annotations

import json
import re
import sys
import sysconfig
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 8192
CONTEXT = 8192
LONGEST_ANSWER = 512
BEGIN, END, TURN = SPECIAL = ("<|begin|>", "<|end|>", "<|turn|>")
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,  # the CPU's attention knows no smaller one than 32
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.02,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": SPECIAL.index(BEGIN),
    "eos_token_id": SPECIAL.index(END),
}
CHAT_TEMPLATE = (
    "{% if tools %}<|turn|>tools\n{{ tools | tojson }}<|end|>\n{% endif %}"
    "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content or '' }}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
NEWLINE = "Ċ"
"""As byte-level tokenizers spell it: the first 32 bytes are the 32 characters from number 256 on."""
PLAIN_TEXT = re.compile(rb"[\n -~]*")


def trained() -> Tokenizer:
    """A byte-level tokenizer of Python's standard library.

    It knows no control characters but the newline: a model that draws at random would break its JSON with them.
    """
    sources = [path.read_bytes() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))]
    texts = [source.decode() for source in sources if PLAIN_TEXT.fullmatch(source)]
    control = {chr(256 + byte) for byte in range(32)} - {NEWLINE}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(set(pre_tokenizers.ByteLevel.alphabet()) - control),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    tokenizer = trained()
    assert tokenizer.get_vocab_size() == VOCABULARY
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "model_max_length": CONTEXT,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    # Dummy weights never end an answer by themselves, and not every client sets a limit.
    (folder / "generation_config.json").write_text(json.dumps({"max_new_tokens": LONGEST_ANSWER}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
