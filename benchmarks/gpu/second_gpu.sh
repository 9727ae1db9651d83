#!/usr/bin/env bash
# Two GPUs watched while only one works: the mix of additivity.sh on the first of CUDA_VISIBLE_DEVICES.
# Usage: CUDA_VISIBLE_DEVICES=1,0 second_gpu.sh MODEL OUT      3 minutes on H200s with two trials
set -euo pipefail
model=${1:?usage: second_gpu.sh MODEL OUT} out=${2:?usage: second_gpu.sh MODEL OUT} here=$(dirname "$0")
mkdir -p "$out"
"${PYTHON:-python3}" "$here/uniform_trace.py" "$out/nodes.jsonl.zst" ${NODES:-summary=2x45x1500x16 summary=1x20x3000x32 chat=8x6x128x384 agent=4x6x512x256}
rejoule replay "$out/nodes.jsonl.zst" -o "$out/second-gpu" --engine vllm \
    --option "model=$model" --option load_format=dummy --option max_model_len=16384 --option num_gpu_blocks=8000 \
    --max-num-seqs 64 --arrivals burst --option warm_up_s=8 --option cool_down_s=2 --trials "${TRIALS:-2}" --json > "$out/second-gpu.json"
