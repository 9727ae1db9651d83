#!/usr/bin/env bash
# Replays the kept workloads at batch 8 in waves and not, three trials each, at the GPU's own limit.
# Usage: batching.sh MODEL OUT      ENGINE=sim tries it without one
set -euo pipefail
. "$(dirname "$0")/experiment.sh"
cat > "$out/batching.toml" << TOML
traces = [$traces]
trials = ${TRIALS:-3}
seed = 19
[configuration]
engine = "$engine"
max_num_seqs = 8
arrivals = "burst"
options = $(served ${BLOCKS:-40000})
[sweep]
batching = ["continuous", "static"]
TOML
rejoule run "$out/batching.toml" -o "$out/batching" --json > "$out/batching.json"
