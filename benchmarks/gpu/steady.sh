#!/usr/bin/env bash
# Batches of 1, 8, 64 and 256 kept full: what the sensors say, and when the limit binds.
# Usage: steady.sh MODEL OUT
set -euo pipefail
model=${1:?usage: steady.sh MODEL OUT} out=${2:?usage: steady.sh MODEL OUT} here=$(dirname "$0")
mkdir -p "$out"
lanes() { "${PYTHON:-python3}" "$here/uniform_trace.py" "$out/batch-$1.jsonl.zst" "answer=$1x$2x512x128"; }
lanes 1 24; lanes 8 24; lanes 64 14; lanes 256 10
rejoule replay "$out"/{batch-1,batch-8,batch-64,batch-256}.jsonl.zst -o "$out/steady" --engine vllm \
    --option "model=$model" --option load_format=dummy --option max_model_len=16384 --option num_gpu_blocks=40000 \
    --max-num-seqs 256 --arrivals burst --option warm_up=false --option cool_down_s=5 --json > "$out/steady.json"
