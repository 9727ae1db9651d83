#!/usr/bin/env bash
# Replays the kept workloads at batch 8 in waves and not, three trials each, at the GPU's own limit.
# Usage: batching.sh MODEL OUT      ENGINE=sim tries it without one
set -euo pipefail
model=${1:?usage: batching.sh MODEL OUT} out=${2:?usage: batching.sh MODEL OUT}
repo=$(realpath "$(dirname "$0")/../..")
mkdir -p "$out"
engine=${ENGINE:-vllm}
option="num_gpu_blocks = ${BLOCKS:-40000}"
if [ "$engine" = vllm ]; then
    option+=", model = \"$model\", load_format = \"dummy\", max_model_len = 16384, cool_down_s = 1, warm_up_s = 4, idle_s = 2"
fi
names=$(for name in agentic composite interactive sequential; do printf '"%s", ' "$repo/benchmarks/h200/workloads/traces/$name.jsonl.zst"; done)
cat > "$out/batching.toml" << TOML
traces = [$names]
trials = ${TRIALS:-3}
seed = 19
[configuration]
engine = "$engine"
max_num_seqs = 8
arrivals = "burst"
options = { $option }
[sweep]
batching = ["continuous", "static"]
TOML
rejoule run "$out/batching.toml" -o "$out/batching" --json > "$out/batching.json"
