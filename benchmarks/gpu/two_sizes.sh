#!/usr/bin/env bash
# Measures Qwen3-32B's shape beside the 8B shape of MODEL, from which `rejoule calibrate GRID GRID --base … --base …` fits
# constants that are the GPU's: the short grid, and the four workloads to judge by, at the GPU's own limit.
# Usage: two_sizes.sh MODEL OUT      ENGINE=sim tries it without a GPU
# STAGES="small large judge" chooses what is measured; about 4, 5 and 7 minutes of an H200. `small` is the short grid of
# MODEL itself on this card and host: leave it out only where a grid of that card is kept.
set -euo pipefail
. "$(dirname "$0")/experiment.sh"
python=${PYTHON:-python3} stages=${STAGES:-small large judge} seats=64 cell_s=${CELL_S:-0.6} large=qwen3-32b
small=$model model=$(realpath "$out")/$large
[ "$engine" = sim ] || (cd "$repo" && "$python" -m benchmarks.gpu.shape "$(realpath "$small")" "$large" "$model")

grid() { # NAME BASE MODEL BLOCKS
    rejoule calibrate --quick --grid-only --base "$2" --max-num-seqs $seats --cell-s "$cell_s" --kv-tokens $(($4 * 16)) -o "$out/$1.jsonl.zst"
    local options=(--option "num_gpu_blocks=$4")
    if [ "$engine" = vllm ]; then
        options+=(--option "model=$3" --option load_format=dummy --option max_model_len=16384 --option warm_up=false --option cool_down_s=3)
    else
        options+=(--profile "${PROFILE:-h200}-${2#h200-}")
    fi
    rejoule replay "$out/$1.jsonl.zst" -o "$out/$1" --engine "$engine" --max-num-seqs $seats --arrivals burst "${options[@]}" --json > "$out/$1.json"
}

for stage in $stages; do
    case $stage in
        small) grid small h200-llama-3.1-8b "$small" 40000 ;;
        large) grid large "h200-$large" "$model" 12500 ;;
        judge)
            # One server for all: as many calls at a time as a batch would be.
            cat > "$out/judge.toml" << TOML
traces = [$traces]
trials = 1
seed = 29
[configuration]
engine = "$engine"
arrivals = "burst"
output_scale = 0.5
max_num_seqs = $seats
options = $(served 12500)
$([ "$engine" = vllm ] || echo "profile = \"${PROFILE:-h200}-$large\"")
[sweep]
concurrency = [$seats, 8, 1]
TOML
            rejoule run "$out/judge.toml" -o "$out/judge" --json > "$out/judge.json"
            ;;
        *) echo "no stage $stage: small, large or judge" >&2; exit 2 ;;
    esac
done
