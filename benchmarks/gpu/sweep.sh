#!/usr/bin/env bash
# Replays recorded workloads in tier tokens over batch sizes, three trials each, at the GPU's limits as they are.
# Usage: sweep.sh MODEL TRACES OUT BATCH_SIZES      as in: sweep.sh ./llama traces runs-8 8
set -euo pipefail
model=${1:?} traces=${2:?} out=${3:?} sizes=${4:?}
rejoule replay "$traces"/*.jsonl.zst -o "$out" --engine vllm --option "model=$model" --option load_format=dummy \
    --option max_model_len=16384 --option "num_gpu_blocks=${BLOCKS:-40000}" \
    --max-num-seqs "$sizes" --arrivals burst --option warm_up_s=5 --option cool_down_s=5 \
    --trials "${TRIALS:-3}" --json > "$out.json"
