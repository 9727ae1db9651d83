#!/usr/bin/env bash
# Measures the shape of Qwen3-32B, and 16 of its layers, beside the 8B shape of MODEL, from which `rejoule calibrate GRID
# GRID GRID --base … --base … --base …` fits constants that are the GPU's: the short grid of each, and the four workloads on
# the largest to judge by, at the GPU's own limit.
# Usage: two_sizes.sh MODEL OUT      ENGINE=sim tries it without a GPU
# STAGES="small cut large judge" chooses what is measured; 3.6, 3.6, 4.2 and 5.9 minutes of an H200. `small` is the grid of
# MODEL itself on this card and host: leave it out only where a grid of that card is kept.
# `python -m benchmarks.sizes_measured OUT` judges; its parts are kept as sizes-8b, sizes-16-layers, sizes-32b, sizes-workloads.
set -euo pipefail
. "$(dirname "$0")/experiment.sh"
python=${PYTHON:-python3} stages=${STAGES:-small cut large judge} seats=64 cell_s=${CELL_S:-0.6} large=qwen3-32b
small=$model model=$(realpath "$out")/$large cut=$large-16-layers
if [ "$engine" = vllm ]; then
    for shape in $large $cut; do
        (cd "$repo" && "$python" -m benchmarks.gpu.shape "$(realpath "$small")" "$shape" "$(realpath "$out")/$shape")
    done
fi

grid() { # NAME BASE MODEL BLOCKS
    rejoule calibrate --quick --grid-only --base "$2" --max-num-seqs $seats --cell-s "$cell_s" --kv-tokens $(($4 * 16)) -o "$out/$1.jsonl.zst"
    local options=(--option "num_gpu_blocks=$4")
    if [ "$engine" = vllm ]; then
        options+=(--option "model=$3" --option load_format=dummy --option max_model_len=16384 --option warm_up=false --option cool_down_s=3)
    else
        local shape=${2#h200-}
        options+=(--profile "${PROFILE:-h200}-${shape#data-sheet-}")
    fi
    rejoule replay "$out/$1.jsonl.zst" -o "$out/$1" --engine "$engine" --max-num-seqs $seats --arrivals burst "${options[@]}" --json > "$out/$1.json"
}

for stage in $stages; do
    case $stage in
        small) grid small h200-llama-3.1-8b "$small" 40000 ;;
        cut) grid cut "h200-data-sheet-$cut" "$(realpath "$out")/$cut" 12500 ;;
        large) grid large "h200-data-sheet-$large" "$model" 12500 ;;
        judge)
            # One server for all: as many calls at a time as a batch would be.
            experiment judge "$traces" 1 29 << TOML
arrivals = "burst"
output_scale = 0.5
max_num_seqs = $seats
options = $(served 12500)
$([ "$engine" = vllm ] || echo "profile = \"${PROFILE:-h200}-$large\"")
[sweep]
concurrency = [$seats, 8, 1]
TOML
            ;;
        *) echo "no stage $stage: small, cut, large or judge" >&2; exit 2 ;;
    esac
done
