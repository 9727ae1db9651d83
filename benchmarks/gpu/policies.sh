#!/usr/bin/env bash
# Replays a loaded mix of the kept workloads under scheduling policies, three trials each, at the GPU's own limit.
# Usage: policies.sh MODEL OUT      ENGINE=sim tries it without one
set -euo pipefail
. "$(dirname "$0")/experiment.sh"
mix=$(realpath "$out")/mix.jsonl.zst
# More calls are due than there are seats for most of the time, and 48,000 tokens of KV cache are tight for them.
(cd "$repo" && "${PYTHON:-python3}" -m benchmarks.mix "${COPIES:-3}" "${SEED:-1}" "$mix")
experiment policies "\"$mix\"" "${TRIALS:-3}" 17 << TOML
max_num_seqs = 16
arrivals = "poisson:20"
time_scale = 0.25
options = $(served 3000)
[sweep]
policy = ["fcfs", "workflow-fcfs", "critical-path", "las", "parrot"]
TOML
