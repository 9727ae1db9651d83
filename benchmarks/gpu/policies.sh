#!/usr/bin/env bash
# Replays a loaded mix of the kept workloads under scheduling policies, and the kept workloads in waves and not, three
# trials each, at the GPU's own limit. Usage: policies.sh MODEL OUT
set -euo pipefail
model=${1:?usage: policies.sh MODEL OUT} out=${2:?usage: policies.sh MODEL OUT}
repo=$(realpath "$(dirname "$0")/../..")
mkdir -p "$out"
mix=$(realpath "$out")/mix.jsonl.zst
# More calls are due than there are seats for most of the time, and 48,000 tokens of KV cache are tight for them.
(cd "$repo" && "${PYTHON:-python3}" -m benchmarks.mix "${COPIES:-4}" "${SEED:-1}" "$mix")
engine=${ENGINE:-vllm}
option="num_gpu_blocks = 3000"
kept="num_gpu_blocks = 40000"
if [ "$engine" = vllm ]; then
    served="model = \"$model\", load_format = \"dummy\", max_model_len = 16384, cool_down_s = 1, warm_up_s = 4, idle_s = 2"
    option+=", $served" kept+=", $served"
fi
cat > "$out/policies.toml" << TOML
traces = ["$mix"]
trials = ${TRIALS:-3}
seed = 17
[configuration]
engine = "$engine"
max_num_seqs = 16
arrivals = "poisson:20"
time_scale = 0.25
options = { $option }
[sweep]
policy = ["fcfs", "workflow-fcfs", "critical-path", "las", "parrot"]
TOML
rejoule run "$out/policies.toml" -o "$out/policies" --json > "$out/policies.json"
names=$(for name in agentic composite interactive sequential; do printf '"%s", ' "$repo/benchmarks/h200/workloads/traces/$name.jsonl.zst"; done)
cat > "$out/batching.toml" << TOML
traces = [$names]
trials = ${TRIALS:-3}
seed = 19
[configuration]
engine = "$engine"
max_num_seqs = 8
arrivals = "burst"
options = { $kept }
[sweep]
batching = ["continuous", "static"]
TOML
rejoule run "$out/batching.toml" -o "$out/batching" --json > "$out/batching.json"
