#!/usr/bin/env bash
# What forcing tokens and tapping steps cost: 32 calls at a time, 512 tokens in, 128 out.
# Usage: overhead.sh MODEL OUT
set -euo pipefail
model=${1:?} out=${2:?} here=$(dirname "$0")
mkdir -p "$out"
"${PYTHON:-python3}" "$here/uniform_trace.py" "$out/uniform.jsonl.zst" answer=32x20x512x128

measure() {  # NAME V2_RUNNER OPTIONS...
    local name=$1 runner=$2; shift 2
    VLLM_USE_V2_MODEL_RUNNER=$runner rejoule replay "$out/uniform.jsonl.zst" -o "$out/$name" --engine vllm \
        --option "model=$model" --option load_format=dummy --option max_model_len=16384 \
        --option num_gpu_blocks=40000 --max-num-seqs 32 --arrivals burst --trials "${TRIALS:-4}" \
        --json "$@" > "$out/$name.json"
}
measure plain 0 --option tier=lengths --option step_tap=false
measure forced 0 --option tier=tokens --option step_tap=false
measure tapped 0 --option tier=lengths --option step_tap=true
measure both 0 --option tier=tokens --option step_tap=true
measure plain-v2 1 --option tier=lengths --option step_tap=false
