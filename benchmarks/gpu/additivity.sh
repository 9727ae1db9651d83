#!/usr/bin/env bash
# Long prompts alone, long answers alone, then both at once: does attribution find in the mix what each costs?
# Usage: additivity.sh MODEL OUT
set -euo pipefail
model=${1:?usage: additivity.sh MODEL OUT} out=${2:?usage: additivity.sh MODEL OUT} here=$(dirname "$0")
mkdir -p "$out"
prefill=prefill=1x340x2000x4 decode=decode=32x4x64x512
"${PYTHON:-python3}" "$here/uniform_trace.py" "$out/prefill.jsonl.zst" $prefill
"${PYTHON:-python3}" "$here/uniform_trace.py" "$out/decode.jsonl.zst" $decode
"${PYTHON:-python3}" "$here/uniform_trace.py" "$out/mix.jsonl.zst" $prefill $decode
rejoule replay "$out"/{prefill,decode,mix}.jsonl.zst -o "$out/additivity" --engine vllm \
    --option "model=$model" --option load_format=dummy --option max_model_len=16384 --option num_gpu_blocks=40000 \
    --max-num-seqs 64 --arrivals burst --trials "${TRIALS:-3}" --json > "$out/additivity.json"
