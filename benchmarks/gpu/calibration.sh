#!/usr/bin/env bash
# Measures the calibration grid, from which rejoule calibrate fits a profile.
# Usage: calibration.sh MODEL OUT
set -euo pipefail
model=${1:?usage: calibration.sh MODEL OUT} out=${2:?usage: calibration.sh MODEL OUT}
mkdir -p "$out"
rejoule calibrate --grid-only -o "$out/grid.jsonl.zst"
rejoule replay "$out/grid.jsonl.zst" -o "$out/grid" --engine vllm \
    --option "model=$model" --option load_format=dummy --option max_model_len=16384 --option "num_gpu_blocks=${BLOCKS:-40000}" \
    --max-num-seqs 256 --arrivals burst --option warm_up=false --option cool_down_s=5 --json > "$out/grid.json"
