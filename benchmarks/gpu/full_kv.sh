#!/usr/bin/env bash
# Replays a mix of the kept workloads, all at once, with few KV blocks at batch 8 and 64 and with plenty at batch 64, two
# trials each, at the GPU's own limit: 8 minutes. PREFIX_CACHING=false does so without a prefix cache: one trial took 5.6.
# Usage: full_kv.sh MODEL OUT      ENGINE=sim tries it without a GPU
set -euo pipefail
. "$(dirname "$0")/experiment.sh"
mix=$(realpath "$out")/mix.jsonl.zst caching=${PREFIX_CACHING:-true}
name=full-kv$([ "$caching" = true ] || echo -uncached)
(cd "$repo" && "${PYTHON:-python3}" -m benchmarks.mix "${COPIES:-2}" "${SEED:-1}" "$mix")
# 1100 blocks are just more than the longest context that the server takes; 40000 never run out.
cells() {
    for cell in "64 1100" "64 40000" "8 1100"; do
        read -r batch blocks <<< "$cell"
        printf '[[cells]]\nmax_num_seqs = %s\noptions.num_gpu_blocks = %s\n' "$batch" "$blocks"
    done
}
experiment "$name" "\"$mix\"" "${TRIALS:-2}" 29 << TOML
arrivals = "burst"
time_scale = 0.1
options = $(served 0 | sed "s/num_gpu_blocks = 0/enable_prefix_caching = $caching/")
$(cells)
TOML
