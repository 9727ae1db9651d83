#!/usr/bin/env bash
# Long prompts alone, long answers alone, then both at once: does attribution find in the mix what each costs?
# Usage: additivity.sh MODEL OUT
set -euo pipefail
model=${1:?usage: additivity.sh MODEL OUT} out=${2:?usage: additivity.sh MODEL OUT} here=$(dirname "$0")
mkdir -p "$out"
# Several sizes of each class: in lockstep a step's own cost and its tokens' could not be told apart.
prefill=${PREFILL:-prefill=1x200x500x4 prefill=1x150x1000x4 prefill=1x100x3000x4}
decode=${DECODE:-decode=8x6x64x512 decode=8x5x64x384 decode=8x4x128x256 decode=8x3x512x128}
"${PYTHON:-python3}" "$here/uniform_trace.py" "$out/prefill.jsonl.zst" $prefill
"${PYTHON:-python3}" "$here/uniform_trace.py" "$out/decode.jsonl.zst" $decode
"${PYTHON:-python3}" "$here/uniform_trace.py" "$out/mix.jsonl.zst" $prefill $decode
rejoule replay "$out"/{prefill,decode,mix}.jsonl.zst -o "$out/additivity" --engine vllm \
    --option "model=$model" --option load_format=dummy --option max_model_len=16384 --option "num_gpu_blocks=${BLOCKS:-40000}" \
    --max-num-seqs 64 --arrivals burst --option warm_up=false --option cool_down_s=5 --trials "${TRIALS:-3}" --json > "$out/additivity.json"
